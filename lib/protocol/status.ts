/**
 * What has become of a migration at its destination: an extension of ours. Whoever does not know it any more connects with the flag STATUS and the
 * migration's id in its private data, is answered with STATUS, one u32, and leaves. A destination that knows nothing of such questions says something else
 * first, or refuses: that is no answer.
 */
import { MigrationError } from '../errors.ts';
import { Cursor } from './cursor.ts';
import { Writer } from './writer.ts';

/** Values on the wire. */
export const STATUS_WORD = {
  /** No such migration is known here: nothing follows from it. */
  unknown: 0,
  /** It is decided: the VM is the destination's, now and for ever. */
  taken: 1,
  /** It is decided: the destination does not have the VM and never will. */
  'not-taken': 2,
  /** Nothing is decided yet: ask again. */
  undecided: 3,
} as const;

export type StatusWord = keyof typeof STATUS_WORD;

export function encodeStatus(status: StatusWord): Uint8Array {
  return new Writer(4).u32(STATUS_WORD[status]).finish();
}

/** @throws MigrationError PROTOCOL_ERROR: another length, or a word that is not known here, from which nothing may follow */
export function decodeStatus(data: Uint8Array): StatusWord {
  const value = data.length === 4 ? new Cursor(data, 'STATUS', 'commit').u32() : undefined;
  const word = (Object.keys(STATUS_WORD) as StatusWord[]).find((key) => STATUS_WORD[key] === value);
  if (word !== undefined) return word;
  const message = `the peer sent a STATUS of ${data.length} bytes that says nothing known here (${value})`;
  throw new MigrationError('PROTOCOL_ERROR', 'commit', message);
}
