/** Control messages of QEMU's RDMA migration by the specification, independent of the product's codecs. */
import { createHash } from 'node:crypto';

export const TYPE = {
  NONE: 0,
  ERROR: 1,
  READY: 2,
  QEMU_FILE: 3,
  RAM_BLOCKS_REQUEST: 4,
  RAM_BLOCKS_RESULT: 5,
  COMPRESS: 6,
  REGISTER_REQUEST: 7,
  REGISTER_RESULT: 8,
  REGISTER_FINISHED: 9,
  UNREGISTER_REQUEST: 10,
  UNREGISTER_FINISHED: 11,
  COMMIT: 0x100,
  COMMITTED: 0x101,
  DIGESTS_REQUEST: 0x106,
} as const;
export type TypeName = keyof typeof TYPE;

const NAMES = new Map<number, TypeName>(
  (Object.entries(TYPE) as [TypeName, number][]).map(([name, number]) => [number, name]),
);

export interface Message {
  readonly type: TypeName;
  readonly repeat: number;
  readonly data: Buffer;
}

/** Header and data. `length` and `type`, if given, may lie. */
export function controlMessage(
  type: TypeName | number,
  data: Uint8Array = new Uint8Array(),
  header: { repeat?: number; length?: number; padding?: number } = {},
): Buffer {
  const number = typeof type === 'number' ? type : TYPE[type];
  const { repeat = 1, length = data.length, padding = 0 } = header;
  return Buffer.concat([u32s(length, number, repeat, padding), data]);
}

export function parseControl(bytes: Buffer): Message {
  const [length, number, repeat] = [bytes.readUInt32BE(0), bytes.readUInt32BE(4), bytes.readUInt32BE(8)];
  const type = NAMES.get(number);
  if (type === undefined) throw new Error(`control message of type ${number}`);
  if (length !== bytes.length - 16) throw new Error(`${type} says ${length} bytes, has ${bytes.length - 16}`);
  return { type, repeat, data: bytes.subarray(16) };
}

export function u32s(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4);
  for (const [index, value] of values.entries()) bytes.writeUInt32BE(value >>> 0, index * 4);
  return bytes;
}

export function u64s(...values: bigint[]): Buffer {
  const bytes = Buffer.alloc(values.length * 8);
  for (const [index, value] of values.entries()) bytes.writeBigUInt64BE(value, index * 8);
  return bytes;
}

export interface Register {
  readonly key: bigint;
  readonly index: number;
  readonly chunks: bigint;
}

export const registerCommand = ({ key, index, chunks }: Register): Buffer =>
  Buffer.concat([u64s(key), u32s(index, 0), u64s(chunks)]);

export const parseRegister = (data: Buffer): Register => ({
  key: data.readBigUInt64BE(0),
  index: data.readUInt32BE(8),
  chunks: data.readBigUInt64BE(16),
});

export const compressCommand = (value: number, index: number, offset: bigint, length: bigint): Buffer =>
  Buffer.concat([u32s(value, index), u64s(offset, length)]);

/** A block as RAM_BLOCKS_RESULT announces it. */
export interface Announced {
  readonly address: bigint;
  readonly offset: bigint;
  readonly length: bigint;
  readonly rkey: number;
}

export const announcedBlock = ({ address, offset, length, rkey }: Announced): Buffer =>
  Buffer.concat([u64s(address, offset, length), u32s(rkey, 0)]);

export function parseBlocks(data: Buffer): Announced[] {
  return Array.from({ length: data.length / 32 }, (_, index) => ({
    address: data.readBigUInt64BE(index * 32),
    offset: data.readBigUInt64BE(index * 32 + 8),
    length: data.readBigUInt64BE(index * 32 + 16),
    rkey: data.readUInt32BE(index * 32 + 24),
  }));
}

/** The account of the commit extension, as lib/protocol/commit.ts describes it. */
export class Account {
  streamBytes = 0n;
  ramBytes = 0n;
  zeroBytes = 0n;
  rounds = 0;
  readonly #hash = createHash('sha256');

  add(bytes: Buffer): void {
    const { type, data } = parseControl(bytes);
    this.#hash.update(bytes);
    if (type === 'QEMU_FILE') this.streamBytes += BigInt(data.length);
    if (type === 'COMPRESS') this.zeroBytes += data.readBigUInt64BE(16);
    if (type === 'REGISTER_FINISHED') this.rounds += 1;
  }

  /** The data portion of COMMIT. */
  commit(): Buffer {
    const counts = u64s(this.streamBytes, this.ramBytes, this.zeroBytes);
    return Buffer.concat([counts, u32s(this.rounds, 0), this.#hash.copy().digest()]);
  }
}

/** Version and flags, and the extension's tail if wanted: one without a check value. */
export function privateData(
  options: { version?: number; pinAll?: boolean; commit?: boolean; pinBudget?: bigint; tls?: boolean } = {},
): Buffer {
  const { version = 1, pinAll = false, commit = false, pinBudget, tls = false } = options;
  const flags = (commit ? 1 : 0) | (pinBudget === undefined ? 0 : 2) | (tls ? 0x400 : 0);
  const v1 = u32s(version, pinAll ? 1 : 0);
  if (flags === 0) return v1;
  const bytes = pinBudget === undefined ? Buffer.alloc(0) : u64s(pinBudget);
  return Buffer.concat([v1, Buffer.from('RDMg'), u32s(0x00010000 | (12 + bytes.length), flags), bytes]);
}
