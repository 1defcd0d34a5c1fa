/** Reads what stands on the command line. Everything is refused that is not exactly what was asked for. */
import { resolve } from 'node:path';
import { InvalidArgumentError } from 'commander';
import { NETWORK, parseNetwork } from '../trust/allow.ts';

const UNITS: Readonly<Record<string, bigint>> = {
  B: 1n,
  K: 1n << 10n,
  M: 1n << 20n,
  G: 1n << 30n,
  T: 1n << 40n,
  P: 1n << 50n,
  E: 1n << 60n,
};
const U64_MAX = (1n << 64n) - 1n;
/** What a timer of Node can wait. */
const MOST_MS = 2 ** 31 - 1;

/** A size as QEMU writes it: `4096`, `500M`, `1.5G`; suffixes of 1024, no suffix means bytes. Rounded down to whole bytes. */
export function parseSize(text: string): bigint {
  const match = /^(\d{1,20})(?:\.(\d{1,18}))?([BKMGTPE]?)$/i.exec(text);
  if (!match) throw badSize('expected a size such as 4096, 500M or 1.5G');
  const [, whole = '', fraction = '', suffix = ''] = match;
  const unit = UNITS[suffix.toUpperCase() || 'B'] as bigint;
  if (fraction !== '' && unit === 1n) throw badSize('there is no fraction of a byte: add K, M, G, T, P or E');
  const bytes = (BigInt(whole + fraction) * unit) / 10n ** BigInt(fraction.length);
  if (bytes > U64_MAX) throw badSize(`${bytes} bytes are more than 64 bits can hold`);
  return bytes;
}

function badSize(why: string): InvalidArgumentError {
  return new InvalidArgumentError(`${capitalized(why)}.`);
}

function capitalized(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/** A whole number; what it may be is the option's own affair. */
export function parseCount(text: string): number {
  if (/^\d{1,9}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('Expected a whole number.');
}

const MILLISECONDS_OF: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** A time: `300ms`, `2s`, `1.5m`, `1h`; a bare number is seconds. As milliseconds, rounded, at least one. */
export const parseSeconds = (text: string): number => duration(text, 's');

/** The same where `0` and `off` are none: 0. */
export const parseSecondsOrOff = (text: string): number => (/^(off|0)$/i.test(text) ? 0 : parseSeconds(text));

/** The same where a bare number is milliseconds, as in QEMU's `downtime-limit`. */
export const parseMilliseconds = (text: string): number => duration(text, 'ms');

function duration(text: string, bare: 's' | 'ms'): number {
  const [, number, unit] = /^(\d{1,10}(?:\.\d{1,3})?)(ms|s|m|h)?$/i.exec(text) ?? [];
  const milliseconds = Number(number) * (MILLISECONDS_OF[(unit ?? bare).toLowerCase()] as number);
  if (milliseconds > 0 && milliseconds <= MOST_MS) return Math.max(1, Math.round(milliseconds));
  const word = bare === 's' ? 'seconds' : 'milliseconds';
  throw new InvalidArgumentError(
    `Expected ${word}, or a time such as 300ms, 2s, 5m or 1h: more than 0, and at most ${Math.floor(MOST_MS / 3_600_000)}h.`,
  );
}

/** A path, absolute. An empty one would be the working directory, which nobody means. */
export function parsePath(text: string): string {
  if (text === '') throw new InvalidArgumentError('Expected a path.');
  return resolve(text);
}

/** Collects `NAME=PATH` options; paths become absolute. Block names such as `/rom@etc/acpi/tables` have no `=`. */
export function collectPath(
  text: string,
  previous: Readonly<Record<string, string>> = {},
): Record<string, string> {
  const [name, path] = splitPair(text, previous);
  if (path === undefined || path === '')
    throw new InvalidArgumentError('Expected BLOCK=PATH, such as pc.ram=/dev/shm/vm1.');
  return assign(previous, name, resolve(path));
}

/** Collects addresses and networks. */
export function collectNetwork(text: string, previous: readonly string[] = []): readonly string[] {
  if (parseNetwork(text)) return [...previous, text];
  throw new InvalidArgumentError(`Expected ${NETWORK}.`);
}

/** Collects names as they are. */
export function collectName(text: string, previous: readonly string[] = []): readonly string[] {
  if (text === '') throw new InvalidArgumentError('Expected a name.');
  return [...previous, text];
}

/** Collects `NAME` or `NAME=ADDRESS` options; the address is decimal or 0x hexadecimal. */
export function collectIgnored(
  text: string,
  previous: Readonly<Record<string, bigint | undefined>> = {},
): Record<string, bigint | undefined> {
  const [name, address] = splitPair(text, previous);
  if (address === undefined) return assign(previous, name, undefined);
  if (!/^(\d{1,20}|0x[0-9a-f]{1,16})$/i.test(address) || BigInt(address) > U64_MAX) {
    throw new InvalidArgumentError('Expected BLOCK or BLOCK=ADDRESS, such as pc.ram=0x0.');
  }
  return assign(previous, name, BigInt(address));
}

function splitPair(text: string, previous: object): [name: string, value: string | undefined] {
  const equals = text.indexOf('=');
  const name = equals < 0 ? text : text.slice(0, equals);
  if (name === '') throw new InvalidArgumentError('The name of the RAM block is missing.');
  if (Object.hasOwn(previous, name)) throw new InvalidArgumentError(`The RAM block ${name} is named twice.`);
  return [name, equals < 0 ? undefined : text.slice(equals + 1)];
}

/** Without a prototype: a block may be called `__proto__`. */
function assign<T>(previous: Readonly<Record<string, T>>, name: string, value: T): Record<string, T> {
  const next: Record<string, T> = Object.assign(Object.create(null), previous);
  next[name] = value;
  return next;
}
