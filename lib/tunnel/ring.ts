/**
 * The first message of each end of a stream, big-endian:
 *
 *     RING      kind u32 (1) | bytes u32 | rkey u32 | silence u32, ms | address u64
 *     REFUSED   kind u32 (3) | reason u32 (1: what the stream is for cannot be reached)
 *
 * The passive end answers RING by one of them. After both rings have been said, native/tunnel/state.h has the only message that follows.
 */
import { MigrationError } from '../errors.ts';
import type { NativeRing } from '../native/tunnel.ts';
import { Cursor } from '../protocol/cursor.ts';
import { Writer } from '../protocol/writer.ts';

const RING = 1;
const REFUSED = 3;
const UNREACHABLE = 1;

/** Bytes of a ring. */
const LEAST = 4096;
const MOST = 2 ** 30;
const END_OF_MEMORY = 1n << 64n;

export interface Ring extends NativeRing {
  /** How long this end lets the other one be silent. */
  readonly silenceMs: number;
}

export function encodeRing({ bytes, rkey, silenceMs, address }: Ring): Uint8Array {
  return new Writer(24).u32(RING).u32(bytes).u32(rkey).u32(silenceMs).u64(address).finish();
}

export const encodeRefused = (): Uint8Array => new Writer(8).u32(REFUSED).u32(UNREACHABLE).finish();

/** @throws MigrationError PROTOCOL_ERROR; CONNECTION_REFUSED: the other end has refused the stream */
export function decodeRing(message: Uint8Array): Ring {
  const cursor = new Cursor(message, 'The first message of a stream', 'negotiate');
  const kind = cursor.u32();
  if (kind === REFUSED)
    throw new MigrationError(
      'CONNECTION_REFUSED',
      'connect',
      'the other end of the tunnel cannot reach the address that it was given with --to: its log says why',
    );
  if (kind !== RING) throw wrong(`is of the unknown kind ${kind}`);
  const [bytes, rkey, silenceMs, address] = [cursor.u32(), cursor.u32(), cursor.u32(), cursor.u64()];
  if (cursor.remaining > 0) throw wrong(`has ${cursor.remaining} bytes too many`);
  if (silenceMs === 0) throw wrong('wants a sign of life all the time');
  if (bytes < LEAST || bytes > MOST || address + BigInt(bytes) > END_OF_MEMORY)
    throw wrong(`offers a ring of ${bytes} bytes at 0x${address.toString(16)}`);
  return { bytes, rkey, silenceMs, address };
}

const wrong = (what: string): MigrationError =>
  new MigrationError('PROTOCOL_ERROR', 'negotiate', `the first message of a stream ${what}`);
