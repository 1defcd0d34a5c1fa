/**
 * How far a source is, told to its destination: an extension of ours. A destination learns of WRITEs at best how many bytes came, and of zeros
 * that its RAM has anyway nothing at all. The source says PROGRESS in its turn, twice a second at most, when it has nothing else to say; nothing
 * but what people are shown hangs on it.
 */
import { MigrationError } from '../errors.ts';
import { Cursor } from './cursor.ts';
import { Writer } from './writer.ts';

/** Bytes, counted since the migration began, but for `round` and `pending`. */
export interface ProgressAccount {
  /** The pass that runs, from 1. */
  readonly round: number;
  /** What that pass had to move when it began. */
  readonly pending: number;
  /** Content whose WRITEs have completed, and zeros that have been told or passed over. */
  readonly content: number;
  readonly zero: number;
  /** Content and zeros that are known of, whether dealt with or not. */
  readonly foundContent: number;
  readonly foundZero: number;
}

const PROGRESS_BYTES = 48;

/** The data portion: round u32, reserved u32, then the five counts, u64 each. */
export function encodeProgress(account: ProgressAccount): Uint8Array {
  const { round, pending, content, zero, foundContent, foundZero } = account;
  const writer = new Writer(PROGRESS_BYTES).u32(round).u32(0);
  for (const count of [pending, content, zero, foundContent, foundZero])
    writer.u64(BigInt(Math.trunc(count)));
  return writer.finish();
}

/** @throws MigrationError PROTOCOL_ERROR for another length, or a count that no machine has */
export function decodeProgress(data: Uint8Array): ProgressAccount {
  if (data.length !== PROGRESS_BYTES)
    throw malformed(`carries ${data.length} bytes, expected ${PROGRESS_BYTES}`);
  const cursor = new Cursor(data, 'PROGRESS', 'ram');
  const round = cursor.u32();
  if (cursor.u32() !== 0) throw malformed('has bits set that are reserved');
  const count = (): number => plausible(cursor.u64());
  return {
    round,
    pending: count(),
    content: count(),
    zero: count(),
    foundContent: count(),
    foundZero: count(),
  };
}

function plausible(count: bigint): number {
  if (count > BigInt(Number.MAX_SAFE_INTEGER)) throw malformed(`says ${count} bytes`);
  return Number(count);
}

function malformed(what: string): MigrationError {
  return new MigrationError('PROTOCOL_ERROR', 'ram', `the source sent a PROGRESS that ${what}`);
}
