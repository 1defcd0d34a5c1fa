/**
 * What goes to the new place of a program that moves: a domain's regions and queue pairs. An announcement goes ahead of an image; both are
 * secret, for who has one is taken for the program. Layout, big-endian: docs/moving-connections.md.
 */
import { MigrationError } from '../errors.ts';
import { crc32c } from '../protocol/crc32c.ts';

const ANNOUNCEMENT = 0x524d_444e; // RMDN
const IMAGE = 0x524d_4449; // RMDI
const VERSION = 1;
const HEAD_BYTES = 12;
const CRC_BYTES = 4;

/** Of a queue pair, so that it can be made again. */
export interface MovedOptions {
  readonly maxSendWr: number;
  readonly maxRecvWr: number;
  readonly crc: boolean;
  readonly connectTimeoutMs: number;
  readonly stallTimeoutMs: number;
  readonly resume: { readonly windowMs: number; readonly retryMs: number };
}

/** A queue pair and its announcement or image, in the words of native/iwarp. */
export interface MovedQueuePair {
  readonly options: MovedOptions;
  readonly bytes: Uint8Array;
}

/** A region: `block` and `offset` are where its memory is, in the words of who moves. */
export interface MovedRegion {
  readonly key: number;
  readonly wireBase: bigint;
  readonly length: number;
  /** Bits of native/fabric/types.h. */
  readonly access: number;
  readonly block: string;
  readonly offset: number;
}

/** What a domain is, frozen. `null`: that queue pair has ended. */
export interface DomainImage {
  readonly longestPauseMs: number;
  readonly regions: readonly MovedRegion[];
  readonly queuePairs: readonly (MovedQueuePair | null)[];
}

export function encodeAnnouncement(queuePairs: readonly MovedQueuePair[]): Uint8Array {
  return sealed(ANNOUNCEMENT, (out) => writeQueuePairs(out, queuePairs));
}

/** @throws MigrationError IMAGE_INVALID */
export function decodeAnnouncement(bytes: Uint8Array): readonly MovedQueuePair[] {
  return opened(ANNOUNCEMENT, bytes, (from) => readQueuePairs(from).map((each) => each ?? refuse()));
}

export function encodeDomainImage({ longestPauseMs, regions, queuePairs }: DomainImage): Uint8Array {
  return sealed(IMAGE, (out) => {
    out.u32(longestPauseMs);
    out.u32(regions.length);
    for (const region of regions) {
      out.u32(region.key);
      out.u64(region.wireBase);
      out.u64(BigInt(region.length));
      out.u32(region.access);
      out.bytes(Buffer.from(region.block));
      out.u64(BigInt(region.offset));
    }
    writeQueuePairs(out, queuePairs);
  });
}

/** Checked whole, but for the queue pairs' own bytes. @throws MigrationError IMAGE_INVALID */
export function decodeDomainImage(bytes: Uint8Array): DomainImage {
  return opened(IMAGE, bytes, (from) => {
    const longestPauseMs = from.u32();
    const regions = Array.from({ length: from.count(REGION_BYTES) }, () => readRegion(from));
    return { longestPauseMs, regions, queuePairs: readQueuePairs(from) };
  });
}

/** At least, without its name. */
const REGION_BYTES = 36;
const QUEUE_PAIR_BYTES = 1;
/** What comes for each queue pair: nothing, its options and its own bytes, or those alone, with the options of the one before. */
const [ENDED, OWN_OPTIONS, AS_BEFORE] = [0, 1, 2];

function readRegion(from: Reader): MovedRegion {
  const key = from.u32();
  const wireBase = from.u64();
  const length = from.size();
  const access = from.u32();
  const block = new TextDecoder().decode(from.bytes());
  const region = { key, wireBase, length, access, block, offset: from.size() };
  if (length === 0 || access > 7 || wireBase + BigInt(length) > 1n << 64n) refuse();
  return region;
}

function writeQueuePairs(out: Writer, queuePairs: readonly (MovedQueuePair | null)[]): void {
  out.u32(queuePairs.length);
  let before: string | undefined;
  for (const each of queuePairs) {
    const options = JSON.stringify(each?.options);
    out.u8(each === null ? ENDED : options === before ? AS_BEFORE : OWN_OPTIONS);
    if (each === null) continue;
    if (options !== before) writeOptions(out, each.options);
    before = options;
    out.foreign(each.bytes);
  }
}

function writeOptions(out: Writer, options: MovedOptions): void {
  out.u32(options.maxSendWr);
  out.u32(options.maxRecvWr);
  out.u8(options.crc ? 1 : 0);
  out.u32(options.connectTimeoutMs);
  out.u32(options.stallTimeoutMs);
  out.u32(options.resume.windowMs);
  out.u32(options.resume.retryMs);
}

function readQueuePairs(from: Reader): (MovedQueuePair | null)[] {
  let before: MovedOptions | undefined;
  return Array.from({ length: from.count(QUEUE_PAIR_BYTES) }, () => {
    const kind = from.u8();
    if (kind === ENDED) return null;
    if (kind !== AS_BEFORE && kind !== OWN_OPTIONS) return refuse();
    const options = kind === OWN_OPTIONS ? readOptions(from) : (before ?? refuse());
    before = options;
    return { options, bytes: from.foreign() };
  });
}

const readOptions = (from: Reader): MovedOptions => ({
  maxSendWr: from.u32(),
  maxRecvWr: from.u32(),
  crc: from.flag(),
  connectTimeoutMs: from.u32(),
  stallTimeoutMs: from.u32(),
  resume: { windowMs: from.u32(), retryMs: from.u32() },
});

function refuse(): never {
  throw new MigrationError(
    'IMAGE_INVALID',
    'verbs',
    'the image of a program that moves is none, of another version, cut short, or damaged',
  );
}

function sealed(magic: number, write: (out: Writer) => void): Uint8Array {
  const out = new Writer();
  out.u32(magic);
  out.u32(VERSION);
  out.u32(0);
  write(out);
  return out.sealed();
}

function opened<T>(magic: number, bytes: Uint8Array, read: (from: Reader) => T): T {
  const all = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = all.length - CRC_BYTES;
  if (end < HEAD_BYTES || all.readUInt32BE(0) !== magic || all.readUInt32BE(4) !== VERSION) return refuse();
  if (all.readUInt32BE(8) !== all.length) return refuse();
  const from = new Reader(all.subarray(0, end));
  from.skip(HEAD_BYTES);
  const value = read(from);
  if (!from.atEnd || from.crc !== all.readUInt32BE(end)) return refuse();
  return value;
}

/** Of what is not a queue pair's own bytes, which may be many, and have a CRC of their own. */
const crcOf = (pieces: readonly Buffer[]): number => crc32c(Buffer.concat(pieces));

class Writer {
  readonly #pieces: Buffer[] = [];
  readonly #own: Buffer[] = [];

  u8(value: number): void {
    this.#add(Buffer.from([value]));
  }
  u32(value: number): void {
    const piece = Buffer.alloc(4);
    piece.writeUInt32BE(value);
    this.#add(piece);
  }
  u64(value: bigint): void {
    const piece = Buffer.alloc(8);
    piece.writeBigUInt64BE(value);
    this.#add(piece);
  }
  /** Their number, then they. */
  bytes(bytes: Uint8Array): void {
    this.u32(bytes.byteLength);
    this.#add(Buffer.from(bytes));
  }
  /** The same of what the CRC leaves out. */
  foreign(bytes: Uint8Array): void {
    this.u32(bytes.byteLength);
    this.#pieces.push(Buffer.from(bytes));
  }
  sealed(): Uint8Array {
    const length = this.#pieces.reduce((sum, each) => sum + each.length, CRC_BYTES);
    this.#pieces[2]?.writeUInt32BE(length);
    this.u32(crcOf(this.#own));
    return Buffer.concat(this.#pieces);
  }
  #add(piece: Buffer): void {
    this.#pieces.push(piece);
    this.#own.push(piece);
  }
}

/** Of bytes that are anybody's. */
class Reader {
  #left: Buffer;
  readonly #own: Buffer[] = [];

  constructor(bytes: Buffer) {
    this.#left = bytes;
  }

  get atEnd(): boolean {
    return this.#left.length === 0;
  }
  /** Of what has been read. */
  get crc(): number {
    return crcOf(this.#own);
  }
  skip(size: number): void {
    this.#take(size);
  }
  u8(): number {
    return this.#take(1)[0] as number;
  }
  flag(): boolean {
    const value = this.u8();
    if (value > 1) refuse();
    return value === 1;
  }
  u32(): number {
    return this.#take(4).readUInt32BE();
  }
  u64(): bigint {
    return this.#take(8).readBigUInt64BE();
  }
  /** A number of bytes that fits into a number. */
  size(): number {
    const value = this.u64();
    return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : refuse();
  }
  /** Of things that follow, of at least so many bytes each. */
  count(least: number): number {
    const count = this.u32();
    return count <= this.#left.length / least ? count : refuse();
  }
  bytes(): Uint8Array {
    return Uint8Array.from(this.#take(this.u32()));
  }
  foreign(): Uint8Array {
    return Uint8Array.from(this.#cut(this.u32()));
  }
  #take(size: number): Buffer {
    const taken = this.#cut(size);
    this.#own.push(taken);
    return taken;
  }
  #cut(size: number): Buffer {
    if (size > this.#left.length) refuse();
    const taken = this.#left.subarray(0, size);
    this.#left = this.#left.subarray(size);
    return taken;
  }
}
