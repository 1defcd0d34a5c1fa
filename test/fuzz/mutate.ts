/** Damage: what a peer, a disk or a person does to bytes and text. */
import type { Random } from '../campaign/random.ts';

/** Values next to which length checks go wrong. */
const EDGES = [0n, 1n, 2n, 0x7fn, 0x80n, 0xffn, 0xffffn, 0x7fff_ffffn, 0x8000_0000n, 0xffff_ffffn].concat([
  0x7fff_ffff_ffff_ffffn,
  0x8000_0000_0000_0000n,
  0xffff_ffff_ffff_f000n,
  0xffff_ffff_ffff_ffffn,
]);

/** An integer that fits `bytes` bytes: near an edge, small, or any. */
export function hostile(random: Random, bytes: number): bigint {
  const kind = random.next();
  const value =
    kind < 0.5
      ? random.pick(EDGES) + BigInt(random.below(5) - 2)
      : kind < 0.7
        ? BigInt(random.below(300))
        : (BigInt(random.below(2 ** 32)) << 32n) | BigInt(random.below(2 ** 32));
  return BigInt.asUintN(8 * bytes, value);
}

export const hostile32 = (random: Random): number => Number(hostile(random, 4));
export const hostile64 = (random: Random): bigint => hostile(random, 8);

export function randomBytes(random: Random, length: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  for (let at = 0; at < length; at++) bytes[at] = random.below(256);
  return bytes;
}

type Damage = (random: Random, bytes: Buffer) => Buffer;

const at = (random: Random, bytes: Buffer): number => random.below(bytes.length + 1);
const piece = (random: Random, bytes: Buffer): Buffer => {
  const from = at(random, bytes);
  return bytes.subarray(from, from + 1 + random.below(random.chance(0.2) ? 4096 : 16));
};

const DAMAGES: readonly Damage[] = [
  function flipBit(random, bytes) {
    const place = random.below(bytes.length);
    bytes[place] = (bytes[place] ?? 0) ^ (1 << random.below(8));
    return bytes;
  },
  function setByte(random, bytes) {
    bytes[random.below(bytes.length)] = random.chance(0.5) ? random.below(256) : random.pick([0, 0xff, 0x7f]);
    return bytes;
  },
  function setInteger(random, bytes) {
    const size = random.pick([2, 4, 8]);
    if (bytes.length < size) return bytes;
    const place = random.below(bytes.length - size + 1);
    Buffer.from(
      hostile(random, size)
        .toString(16)
        .padStart(2 * size, '0'),
      'hex',
    ).copy(bytes, place);
    return bytes;
  },
  (random, bytes) => bytes.subarray(0, at(random, bytes)),
  function remove(random, bytes) {
    const place = at(random, bytes);
    return Buffer.concat([bytes.subarray(0, place), bytes.subarray(place + 1 + random.below(9))]);
  },
  function insert(random, bytes) {
    const place = at(random, bytes);
    const added = random.chance(0.5) ? randomBytes(random, 1 + random.below(9)) : piece(random, bytes);
    return Buffer.concat([bytes.subarray(0, place), added, bytes.subarray(place)]);
  },
  function copyOver(random, bytes) {
    piece(random, Buffer.from(bytes)).copy(bytes, at(random, bytes));
    return bytes;
  },
];

/** A damaged copy: most often in one place. */
export function mutate(random: Random, bytes: Uint8Array): Buffer {
  let damaged = Buffer.from(bytes);
  const times = random.chance(0.7) ? 1 : 1 + random.below(6);
  for (let time = 0; time < times && damaged.length > 0; time++)
    damaged = Buffer.from(random.pick(DAMAGES)(random, damaged));
  return damaged;
}

/** Order: parts are left out, repeated, swapped, or come from elsewhere. */
export function reorder<T>(random: Random, parts: readonly T[], others: readonly T[] = parts): T[] {
  const result = [...parts];
  for (let times = 1 + random.below(3); times > 0; times--) {
    const place = random.below(result.length + 1);
    const kind = random.below(4);
    if (kind === 0) result.splice(place, 1);
    else if (kind === 1 && result.length > 0) result.splice(place, 0, random.pick(result));
    else if (kind === 2 && others.length > 0) result.splice(place, 0, random.pick(others));
    else if (result.length > 1) result.push(...result.splice(place, 1));
  }
  return result;
}

/** The bytes in pieces as a network might deliver them; `steps` of them at most, or a few more. */
export function pieces(random: Random, bytes: Uint8Array, steps = 400): Uint8Array[] {
  const result: Uint8Array[] = [];
  const most = random.pick([1, 3, 16, 300, 5000, 100_000]);
  const least = Math.max(1, Math.floor(bytes.length / steps));
  for (let from = 0; from < bytes.length; ) {
    const size = least + random.below(Math.max(1, most));
    result.push(bytes.subarray(from, from + size));
    from += size;
  }
  return result;
}

/** Text with damage of its own kind. */
export function mutateText(random: Random, text: string): string {
  const odd = ['\0', '\n', '\u202e', '\ud800', '[', ']', ':', '%', '/', ',', '"', '{', '}', '\\', '-', '٣'];
  const odder = ['0x10', '1e3', '__proto__', '..', '99999999999999999999', '-1', '[[[[', '::1', 'é', '😀'];
  let result = text;
  for (let times = random.chance(0.7) ? 1 : 1 + random.below(5); times > 0; times--) {
    const place = random.below(result.length + 1);
    const end = random.chance(0.5) ? place : place + 1 + random.below(4);
    const added = random.pick<() => string>([
      () => '',
      () => random.pick(odd),
      () => random.pick(odder),
      () => String.fromCharCode(random.below(0x300)),
      () => result.slice(0, 1 + random.below(20)),
    ])();
    result = result.slice(0, place) + added + result.slice(end);
  }
  return random.chance(0.01) ? result.repeat(200) : result;
}
