/**
 * What both ends send along with a connection, big-endian. It fits into InfiniBand's 56 bytes, which arrive filled up with zeros.
 *
 *     request:  magic u32, version u16, kind u16 (1 control, 2 data), index u32, token u64
 *     reply:    magic u32, version u16, status u16 (0 welcome, 1 busy, 2 version), limit u32 (0), token u64
 */
import { MigrationError } from '../../errors.ts';
import { Cursor } from '../../protocol/cursor.ts';
import { Writer } from '../../protocol/writer.ts';

/** `RMBN` */
const MAGIC = 0x524d_424e;
/** Magic and version. */
const OF_ALL_VERSIONS = 6;
/** Of either. */
const BYTES = 20;
/** Of hello and messages. Ends of different versions do not talk. */
export const VERSION = 1;

const KINDS = { 1: 'control', 2: 'data' } as const;
const STATUSES = { 0: 'welcome', 1: 'busy', 2: 'version' } as const;

export interface Hello {
  readonly version: number;
  readonly kind: 'control' | 'data';
  /** Of a data queue pair, from 0 on. */
  readonly index: number;
  /** Which session a data queue pair belongs to; 0 with `control`. */
  readonly token: bigint;
}

export interface Welcome {
  readonly version: number;
  readonly status: 'welcome' | 'busy' | 'version';
  /** For this session's data queue pairs. */
  readonly token: bigint;
}

export function encodeHello({ kind, index, token, version }: Hello): Uint8Array {
  const code = kind === 'control' ? 1 : 2;
  return new Writer(20).u32(MAGIC).u16(version).u16(code).u32(index).u64(token).finish();
}

export function encodeWelcome({ status, token, version }: Welcome): Uint8Array {
  const code = { welcome: 0, busy: 1, version: 2 }[status];
  return new Writer(20).u32(MAGIC).u16(version).u16(code).u32(0).u64(token).finish();
}

/** Of another version only that is known. */
export interface UnknownHello {
  readonly version: number;
  readonly kind: 'unknown';
}

/** Anybody may connect. Of another version only magic and version are read. undefined: no benchmark. */
export function decodeHello(data: Uint8Array): Hello | UnknownHello | undefined {
  const version = versionOf(data);
  if (version === undefined) return undefined;
  if (version !== VERSION) return { version, kind: 'unknown' };
  const read = decode(data, KINDS);
  return read && { version, kind: read.value, index: read.number, token: read.token };
}

/** @throws MigrationError PROTOCOL_ERROR: whoever answered is no benchmark */
export function decodeWelcome(data: Uint8Array): Welcome {
  const version = versionOf(data);
  if (version !== undefined && version !== VERSION) return { version, status: 'version', token: 0n };
  const read = version && decode(data, STATUSES);
  if (read) return { version, status: read.value, token: read.token };
  throw new MigrationError(
    'PROTOCOL_ERROR',
    'connect',
    'whoever listens there is no rdma-migrate bench: start rdma-migrate bench --listen there',
  );
}

interface Read<T> {
  readonly value: T;
  readonly number: number;
  readonly token: bigint;
}

function versionOf(data: Uint8Array): number | undefined {
  if (data.length < OF_ALL_VERSIONS) return undefined;
  const cursor = new Cursor(data, 'the hello of a benchmark', 'connect');
  return cursor.u32() === MAGIC ? cursor.u16() : undefined;
}

/** What stands after a version that is ours. */
function decode<T>(data: Uint8Array, values: Readonly<Record<number, T>>): Read<T> | undefined {
  if (data.length < BYTES) return undefined;
  const cursor = new Cursor(data.subarray(OF_ALL_VERSIONS), 'the hello of a benchmark', 'connect');
  const value = values[cursor.u16()];
  return value === undefined ? undefined : { value, number: cursor.u32(), token: cursor.u64() };
}
