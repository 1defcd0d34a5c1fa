/** Streams made by hand, and a driver of the parser. */
import { type StreamEvent, StreamParser } from '../../lib/protocol/stream.ts';
import { Builder } from './builder.ts';

export const SECTION = { sectionId: 2, instanceId: 0 };
export const BLOCKS = [
  { name: 'pc.ram', length: 0x4000n },
  { name: '/rom@etc/acpi/rsdp', length: 0x1000n },
];

const EOS = 0x10n;
const HOOK = 0x80n;

export function beginning(machine = 'pc-i440fx-7.2'): Builder {
  return new Builder().text('QEVM').u32(3).u8(7).u32(machine.length).text(machine);
}

export function capabilities(...names: string[]): Uint8Array {
  const builder = new Builder().u8(5).counted('configuration/capabilities').u32(1).u32(names.length);
  for (const name of names) builder.counted(name);
  return builder.bytes();
}

export function pageBits(bits: number): Uint8Array {
  return new Builder().u8(5).counted('configuration/target-page-bits').u32(1).u32(bits).bytes();
}

export function startHeader(name = 'ram', version = 4): Builder {
  return new Builder().u8(1).u32(2).counted(name).u32(0).u32(version);
}

export interface Block {
  readonly name: string;
  readonly length: bigint;
  readonly guestAddress?: bigint;
}

export function blockList(blocks: readonly Block[], total?: bigint): Uint8Array {
  const builder = new Builder().u64((total ?? blocks.reduce((sum, { length }) => sum + length, 0n)) | 4n);
  for (const { name, length, guestAddress } of blocks) {
    builder.counted(name).u64(length);
    if (guestAddress !== undefined) builder.u64(guestAddress);
  }
  return builder.bytes();
}

export const hook = () => new Builder().u64(HOOK).bytes();
export const eos = () => new Builder().u64(EOS).bytes();
export const footer = (id = 2) => new Builder().u8(0x7e).u32(id).bytes();
export const header = (type: 2 | 3, id = 2) => new Builder().u8(type).u32(id).bytes();

/** Up to and including the blocks of START. */
export function upToBlocks(before: Uint8Array, blocks: readonly Block[] = BLOCKS): Builder {
  return new Builder().raw(before).raw(startHeader().bytes()).raw(blockList(blocks));
}

/** A whole stream of the form `rdma` with one PART, followed by `tail`. */
export function rdmaStream(tail: Uint8Array, before = beginning().bytes()): Uint8Array {
  const round = (type: 2 | 3) => new Builder().raw(header(type)).raw(hook()).raw(eos()).raw(footer()).bytes();
  return upToBlocks(before)
    .raw(hook())
    .raw(eos())
    .raw(footer())
    .raw(round(2))
    .raw(round(3))
    .raw(tail)
    .bytes();
}

/** Page records of every kind: named, continued, zero. Ends with EOS. */
export function pageRecords(): Uint8Array {
  return new Builder()
    .u64(0x08n)
    .counted('pc.ram')
    .raw(new Uint8Array(4096).fill(0x7e))
    .u64(0x1000n | 0x28n)
    .raw(new Uint8Array(4096).fill(0x10))
    .u64(0x2000n | 0x22n)
    .u8(0)
    .raw(eos())
    .bytes();
}

/** A whole plain stream; PART has pages, END has none. */
export function pagesStream(
  tail: Uint8Array,
  before = beginning().bytes(),
  blocks?: readonly Block[],
): Uint8Array {
  return upToBlocks(before, blocks)
    .raw(eos())
    .raw(footer())
    .raw(header(2))
    .raw(pageRecords())
    .raw(footer())
    .raw(header(3))
    .raw(eos())
    .raw(footer())
    .raw(tail)
    .bytes();
}

/** A FULL section. */
export function device(id: number, name: string, body: Uint8Array, instanceId = 0): Uint8Array {
  const builder = new Builder().u8(4).u32(id).counted(name).u32(instanceId).u32(1);
  return builder.raw(body).raw(footer(id)).bytes();
}

export function description(
  devices: readonly { name: string; instance_id: number }[],
  pageSize = 4096,
): Uint8Array {
  const json = JSON.stringify({ page_size: pageSize, devices });
  return new Builder().u8(0).u8(6).u32(Buffer.byteLength(json)).text(json).bytes();
}

export interface Run {
  readonly parser: StreamParser;
  readonly events: StreamEvent[];
  readonly pages: Uint8Array;
  readonly tail: Uint8Array;
}

/** Feeds the pieces one by one and does what a caller must do at `pages` and `ram-end`. */
export function run(form: 'rdma' | 'pages', pieces: Iterable<Uint8Array>): Run {
  const parser = new StreamParser(form);
  const events: StreamEvent[] = [];
  const pages = new PageReader();
  const tail = new Builder();
  for (const piece of pieces) {
    if (events.at(-1)?.type === 'ram-end') {
      tail.raw(piece);
      continue;
    }
    let rest: Uint8Array | undefined = pages.active ? pages.take(piece) : piece;
    while (rest !== undefined) {
      parser.push(rest);
      rest = drain(parser, events, pages, tail);
    }
  }
  return { parser, events, pages: pages.bytes(), tail: tail.bytes() };
}

/** Returns what a finished page reader left, to be pushed back. */
function drain(
  parser: StreamParser,
  events: StreamEvent[],
  pages: PageReader,
  tail: Builder,
): Uint8Array | undefined {
  for (let event = parser.next(); event; event = parser.next()) {
    events.push(event);
    if (event.type === 'pages') {
      pages.active = true;
      return pages.take(parser.takeBuffered());
    }
    if (event.type === 'ram-end') tail.raw(parser.takeBuffered());
  }
  return undefined;
}

/** Replaces the native reader of page records. Returns what follows EOS, or `undefined` while it needs more. */
class PageReader {
  active = false;
  #buffered = Buffer.alloc(0);
  readonly #consumed: Buffer[] = [];

  take(bytes: Uint8Array): Uint8Array | undefined {
    this.#buffered = Buffer.concat([this.#buffered, bytes]);
    const end = recordsEnd(this.#buffered);
    if (end === undefined) return undefined;
    const rest = this.#buffered.subarray(end);
    this.#consumed.push(this.#buffered.subarray(0, end));
    this.#buffered = Buffer.alloc(0);
    this.active = false;
    return rest;
  }

  bytes(): Uint8Array {
    return Buffer.concat(this.#consumed);
  }
}

function recordsEnd(bytes: Buffer): number | undefined {
  for (let at = 0; at + 8 <= bytes.length; ) {
    const flags = Number(bytes.readBigUInt64BE(at) & 0xfffn);
    at += 8;
    if (flags & 0x10) return at;
    if (!(flags & 0x20)) at += 1 + (bytes[at] ?? 0);
    at += flags & 0x08 ? 4096 : 1;
  }
  return undefined;
}

export function* split(bytes: Uint8Array, size: number): Iterable<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}
