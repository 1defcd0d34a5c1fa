/**
 * Control messages: what one SEND carries. Source: "The QEMU RDMA migration protocol, version 1" (docs/rdma.txt of QEMU).
 *
 *     len u32 | type u32 | repeat u32 | padding u32 | data (len bytes)
 *
 * COMMIT and COMMITTED (commit.ts) are an extension of ours, sent only after both ends have agreed on it (capabilities.ts). So is ALIVE: the
 * source says it in its turn when it has had nothing else to say for some seconds. So are PROGRESS (progress.ts), DESCRIPTION, which the source says
 * once, after the START of the ram section and before RAM_BLOCKS_REQUEST, and STATUS (status.ts), which belongs to no migration. DIGESTS_REQUEST and
 * its answer come after RAM_BLOCKS_RESULT and before RAM moves: what the destination has of an earlier try.
 */
import type { ProgressAccount } from './progress.ts';
import type { StatusWord } from './status.ts';

/** Bytes of the header. */
export const CONTROL_HEADER_BYTES = 16;
/** Most bytes that one control message may have, header included (RDMA_CONTROL_MAX_BUFFER). */
export const CONTROL_MAX_BYTES = 512 * 1024;
/** Most commands in the data portion of one message (RDMA_CONTROL_MAX_COMMANDS_PER_MESSAGE). */
export const CONTROL_MAX_REPEAT = 4096;
/** QEMU puts at most this many bytes of its stream into one QEMU_FILE. */
export const QEMU_FILE_BYTES = 32 * 1024;
/** Most bytes of a DESCRIPTION. What they mean is between the VMMs' programs at both ends. */
export const DESCRIPTION_MAX_BYTES = 256 * 1024;

/** What one digest of DIGESTS_RESULT is of, the last one of a block but. */
export const DIGEST_CHUNK_BYTES = 2n << 20n;
/** Of a digest. */
export const DIGEST_BYTES = 32;
/** Most digests of one answer: 1 GiB is read for it. */
export const MOST_DIGESTS = 512;

export const areDigests = ({ length }: Uint8Array): boolean =>
  length > 0 && length % DIGEST_BYTES === 0 && length <= MOST_DIGESTS * DIGEST_BYTES;

/**
 * Type numbers on the wire. 0 (NONE) is never sent. Ours start at 0x100, far from the end of QEMU's, so that a type that QEMU
 * adds cannot be mistaken for one of ours.
 */
export const CONTROL_TYPE = {
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
  ALIVE: 0x102,
  PROGRESS: 0x103,
  DESCRIPTION: 0x104,
  STATUS: 0x105,
  DIGESTS_REQUEST: 0x106,
  DIGESTS_RESULT: 0x107,
} as const;

export type ControlType = keyof typeof CONTROL_TYPE;

/** Types whose data portion is empty. */
export type EmptyType =
  | 'READY'
  | 'RAM_BLOCKS_REQUEST'
  | 'REGISTER_FINISHED'
  | 'UNREGISTER_FINISHED'
  | 'ALIVE';

/**
 * A command to register or to unregister (24 bytes). REGISTER: `key` is an address in the destination's ram_addr space and the
 * range is the chunk that holds it and the next `chunks`. UNREGISTER: `key` is the chunk's number within the block.
 */
export interface RegisterCommand {
  readonly key: bigint;
  readonly blockIndex: number;
  readonly chunks: bigint;
  readonly padding?: number;
}

/** The answer to one REGISTER command (16 bytes). `hostAddress` is the start of the BLOCK, not of the chunk. */
export interface RegisterResult {
  readonly rkey: number;
  readonly hostAddress: bigint;
  readonly padding?: number;
}

/** One RAM block of the destination (32 bytes). `rkey` is valid only with pin-all; `offset` is in its ram_addr space. */
export interface DestinationBlock {
  readonly hostAddress: bigint;
  readonly offset: bigint;
  readonly length: bigint;
  readonly rkey: number;
  readonly padding?: number;
}

/** A range of one repeated byte (24 bytes); QEMU's value is always 0. `offset` is in the destination's ram_addr space. */
export interface CompressCommand {
  readonly value: number;
  readonly blockIndex: number;
  readonly offset: bigint;
  readonly length: bigint;
}

/**
 * Asks what a range of a block holds at the destination (24 bytes: `block u32, padding u32, offset u64, length u64`, offset within the block and a multiple
 * of {@link DIGEST_CHUNK_BYTES}).
 */
export interface DigestsRequest {
  readonly blockIndex: number;
  readonly offset: bigint;
  readonly length: bigint;
}

/**
 * What the source says that it has sent. Data of COMMIT: `stream_bytes u64, ram_bytes u64, zero_bytes u64, rounds u32,
 * flags u32, sent_digest [32]`, and with flag 0x1 `ram_digest [32]`.
 */
export interface Commit {
  /** Bytes in all QEMU_FILE messages. */
  readonly streamBytes: bigint;
  /** Bytes of RDMA WRITEs, including pages that were sent again. */
  readonly ramBytes: bigint;
  /** Sum of the lengths of all COMPRESS messages. */
  readonly zeroBytes: bigint;
  /** Number of REGISTER_FINISHED messages. */
  readonly rounds: number;
  /** Of everything that was sent (`SentDigest`), 32 bytes. */
  readonly sentDigest: Uint8Array;
  /** A digest over all of RAM, 32 bytes, if both ends were asked to make one: it costs a read of every page. */
  readonly ramDigest?: Uint8Array;
}

/** Values of `status` on the wire. */
export const COMMIT_STATUS = {
  /** Everything matches and the VM is durable at the destination. */
  OK: 0,
  /** The numbers of bytes or rounds that arrived differ from those sent. */
  COUNT_MISMATCH: 1,
  /** The same numbers, but different bytes in the stream or the commands. */
  SENT_DIGEST_MISMATCH: 2,
  /** RAM does not hold what the source has. */
  RAM_DIGEST_MISMATCH: 3,
} as const;

export type CommitStatus = keyof typeof COMMIT_STATUS;

/** The destination's answer. Data of COMMITTED: `status u32`. */
export interface Committed {
  readonly status: CommitStatus;
}

/**
 * Header fields that a decoded message keeps only where they differ from what {@link encodeControl} writes by itself, so that
 * every message encodes back to the bytes it came from. `repeat` by itself is the number of register commands or results, and
 * 1 for all other types, RAM_BLOCKS_RESULT included, as QEMU sends them; `padding` is 0.
 */
interface HeaderRest {
  readonly repeat?: number;
  readonly padding?: number;
}

export type ControlMessage = HeaderRest &
  (
    | { readonly type: EmptyType }
    /** `reason` (reason.ts) only between two ends that have agreed on it; QEMU's ERROR has no data. */
    | { readonly type: 'ERROR'; readonly reason?: Uint8Array }
    | { readonly type: 'QEMU_FILE'; readonly bytes: Uint8Array }
    | { readonly type: 'RAM_BLOCKS_RESULT'; readonly blocks: readonly DestinationBlock[] }
    | ({ readonly type: 'COMPRESS' } & CompressCommand)
    | {
        readonly type: 'REGISTER_REQUEST' | 'UNREGISTER_REQUEST';
        readonly commands: readonly RegisterCommand[];
      }
    | { readonly type: 'REGISTER_RESULT'; readonly results: readonly RegisterResult[] }
    | ({ readonly type: 'COMMIT' } & Commit)
    | ({ readonly type: 'COMMITTED' } & Committed)
    | ({ readonly type: 'PROGRESS' } & ProgressAccount)
    | { readonly type: 'DESCRIPTION'; readonly bytes: Uint8Array }
    | { readonly type: 'STATUS'; readonly status: StatusWord }
    | ({ readonly type: 'DIGESTS_REQUEST' } & DigestsRequest)
    /** {@link DIGEST_BYTES} for each chunk, in order. */
    | { readonly type: 'DIGESTS_RESULT'; readonly digests: Uint8Array }
  );
