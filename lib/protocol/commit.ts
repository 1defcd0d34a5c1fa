/**
 * The commit extension: one exchange after the stream settles who holds the VM. Sent only when both ends have agreed
 * on it (capabilities.ts).
 *
 *     source                                    destination
 *       ... last QEMU_FILE                  -->
 *                                           <--  READY
 *       COMMIT (what was sent)              -->  compares with what arrived, makes the VM durable
 *                                           <--  COMMITTED (ok, or what differs)
 *
 * Until COMMITTED with `OK` the source's VM may be resumed; afterwards never. All integers are big-endian.
 */
import { createHash, timingSafeEqual } from 'node:crypto';
import { MigrationError } from '../errors.ts';
import { Cursor } from './cursor.ts';
import {
  COMMIT_STATUS,
  type Commit,
  type CommitStatus,
  type Committed,
  type ControlMessage,
} from './messages.ts';
import { Writer } from './writer.ts';

export type { Commit, CommitStatus, Committed };

/** SHA-256. */
export const DIGEST_BYTES = 32;

const FLAG_RAM_DIGEST = 0x1;

/** The data portion of COMMIT. Throws INVALID_ARGUMENT for a digest that is not 32 bytes long. */
export function encodeCommit(commit: Commit): Uint8Array {
  const { ramDigest } = commit;
  const writer = new Writer(32 + 2 * DIGEST_BYTES)
    .u64(commit.streamBytes)
    .u64(commit.ramBytes)
    .u64(commit.zeroBytes)
    .u32(commit.rounds)
    .u32(ramDigest === undefined ? 0 : FLAG_RAM_DIGEST)
    .bytes(checkDigest(commit.sentDigest));
  return (ramDigest === undefined ? writer : writer.bytes(checkDigest(ramDigest))).finish();
}

/** Reads the data portion of COMMIT; the digests are copies. Throws PROTOCOL_ERROR for another length or unknown flags. */
export function decodeCommit(data: Uint8Array): Commit {
  const cursor = new Cursor(data, 'COMMIT', 'commit');
  const [streamBytes, ramBytes, zeroBytes] = [cursor.u64(), cursor.u64(), cursor.u64()];
  const [rounds, flags] = [cursor.u32(), cursor.u32()];
  if ((flags & ~FLAG_RAM_DIGEST) !== 0) {
    throw malformed(`COMMIT has the unknown flags 0x${(flags >>> 0).toString(16)}`);
  }
  const sentDigest = cursor.bytes(DIGEST_BYTES).slice();
  const ramDigest = flags === 0 ? {} : { ramDigest: cursor.bytes(DIGEST_BYTES).slice() };
  expectEnd(cursor, 'COMMIT');
  return { streamBytes, ramBytes, zeroBytes, rounds, sentDigest, ...ramDigest };
}

/** The data portion of COMMITTED. */
export function encodeCommitted(committed: Committed): Uint8Array {
  return new Writer(4).u32(COMMIT_STATUS[committed.status]).finish();
}

/** Reads the data portion of COMMITTED. Throws PROTOCOL_ERROR for an unknown status: it is not OK, whatever it means. */
export function decodeCommitted(data: Uint8Array): Committed {
  const cursor = new Cursor(data, 'COMMITTED', 'commit');
  const value = cursor.u32();
  expectEnd(cursor, 'COMMITTED');
  const known = Object.entries(COMMIT_STATUS) as [CommitStatus, number][];
  const status = known.find(([, number]) => number === value)?.[0];
  if (status === undefined) throw malformed(`COMMITTED has the unknown status ${value}`);
  return { status };
}

/** Compares what the source says with what arrived. A RAM digest is compared only if both have one. */
export function compareCommits(sent: Commit, arrived: Commit): CommitStatus {
  const sameCounts =
    sent.streamBytes === arrived.streamBytes &&
    sent.ramBytes === arrived.ramBytes &&
    sent.zeroBytes === arrived.zeroBytes &&
    sent.rounds === arrived.rounds;
  if (!sameCounts) return 'COUNT_MISMATCH';
  if (!sameDigest(sent.sentDigest, arrived.sentDigest)) return 'SENT_DIGEST_MISMATCH';
  if (sent.ramDigest === undefined || arrived.ramDigest === undefined) return 'OK';
  return sameDigest(sent.ramDigest, arrived.ramDigest) ? 'OK' : 'RAM_DIGEST_MISMATCH';
}

/**
 * The account that both ends keep of the same messages: the source adds what it sends, the destination what it
 * receives. The digest is SHA-256 over the bytes of every control message from source to destination, header and data, in
 * the order of the connection, from the first QEMU_FILE to the last message before COMMIT (COMMIT itself is not added).
 * Lengths are in the headers, so different sequences of messages never have the same bytes. Messages from destination to
 * source are not part of it.
 */
export class SentDigest {
  readonly #hash = createHash('sha256');
  #streamBytes = 0n;
  #zeroBytes = 0n;
  #rounds = 0;

  /** `send`: the bytes of the SEND as they are on the wire; `message`: the same, decoded. */
  add(send: Uint8Array, message: ControlMessage): void {
    this.#hash.update(send);
    if (message.type === 'QEMU_FILE') this.#streamBytes += BigInt(message.bytes.length);
    else if (message.type === 'COMPRESS') this.#zeroBytes += message.length;
    else if (message.type === 'REGISTER_FINISHED') this.#rounds += 1;
  }

  /** What was added so far. `ramBytes`: bytes of RDMA WRITEs that were sent, or that arrived. */
  commit(ramBytes: bigint, ramDigest?: Uint8Array): Commit {
    return {
      streamBytes: this.#streamBytes,
      ramBytes,
      zeroBytes: this.#zeroBytes,
      rounds: this.#rounds,
      sentDigest: new Uint8Array(this.#hash.copy().digest()),
      ...(ramDigest === undefined ? {} : { ramDigest }),
    };
  }
}

function sameDigest(left: Uint8Array, right: Uint8Array): boolean {
  return left.length === right.length && timingSafeEqual(left, right);
}

function checkDigest(digest: Uint8Array): Uint8Array {
  if (digest.length === DIGEST_BYTES) return digest;
  throw new MigrationError(
    'INVALID_ARGUMENT',
    'commit',
    `Expected a digest of ${DIGEST_BYTES} bytes but received ${digest.length}`,
  );
}

function expectEnd(cursor: Cursor, type: string): void {
  if (cursor.remaining > 0) throw malformed(`${type} has ${cursor.remaining} bytes more than expected`);
}

function malformed(message: string): MigrationError {
  return new MigrationError(
    'PROTOCOL_ERROR',
    'commit',
    `${message}. Use the same release of rdma-migrate at both ends, or switch the commit extension off`,
  );
}
