/** What the addon exports of native/dirty, declared. Nothing is decided here. Errors are `Error` objects with a `code` of lib/errors.ts. */
import type { NativeBitmap, NativeMapping } from './memory.ts';

/** One digest a page of a mapping: of what the peer has. A fresh one says that the peer's page is zero. */
export interface NativePageDigests {
  readonly pages: number;
  /** The peer has been told that these pages are zero. Call it before the pages may be sent again. */
  setZero(firstPage: number, count: number): void;
}

/**
 * native/dirty/tracker.h. One call at a time, but `stop`, which ends a running one early (CANCELLED). Holds the mappings until `stop`; one that
 * is garbage collected ends its watch too, but on the event loop's thread.
 */
export interface NativeTracker {
  /** TRACKER_UNAVAILABLE, OUT_OF_MEMORY, CANCELLED. */
  start(): Promise<void>;
  /** One bitmap a mapping. Resolves with the pages found. TRACKER_UNAVAILABLE, IO_ERROR, TIMEOUT, CANCELLED. */
  collect(bitmaps: readonly Omit<NativeBitmap, 'shares'>[]): Promise<bigint>;
  /** Idempotent. */
  stop(): Promise<void>;
  /** How long the last collect (before the first: start) held the guest up; 0 for kinds that do not. */
  readonly lastPauseMs: number;
  /** One a mapping for a hash tracker, none for others. They outlive the tracker. */
  readonly sent: readonly NativePageDigests[];
}

/** What this kernel has and this process may use. */
export interface NativeTrackerSupport {
  /** For the mappings that were asked for: without a fault thread (Linux 6.7), with one, or not at all. */
  readonly writeProtect: 'async' | 'fault-thread' | null;
  /** Why not at all, with what to do; else empty. */
  readonly writeProtectProblem: string;
  readonly softDirty: boolean;
}

/**
 * native/dirty/bitmap_log.h: little-endian 64-bit words, bit i of word w is page 64 w + i. In a file or memfd (`fd`, duplicated), or at an
 * address in this process that stays mapped until `stop`.
 */
export type NativeDirtyLog = ({ readonly fd: number } | { readonly address: bigint }) & {
  /** Bytes, of the first word, a multiple of 8. */
  readonly offset: bigint;
  /** Bytes, a power of two of at least 512. */
  readonly pageSize: number;
};

export interface NativeDirty {
  createWriteProtectTracker(
    mappings: readonly NativeMapping[],
    options: { mode: 'best' | 'async' | 'fault-thread' },
  ): NativeTracker;
  /** threads: that read at once, 1 to 64; 0: one for every two CPUs, at most 4. */
  createHashTracker(mappings: readonly NativeMapping[], options: { threads: number }): NativeTracker;
  /** One log a mapping. INVALID_ARGUMENT: too short, misplaced, not mapped, not writable. */
  createBitmapTracker(mappings: readonly NativeMapping[], logs: readonly NativeDirtyLog[]): NativeTracker;
  /** addresses: of each mapping in the process; default: found by the files. cgroup: frozen instead of SIGSTOP. */
  createSoftDirtyTracker(
    mappings: readonly NativeMapping[],
    options: { pid: number; addresses?: readonly bigint[]; cgroup?: string },
  ): NativeTracker;
  /** For no mappings: for any memory that can be protected at all. */
  probeTrackers(mappings: readonly NativeMapping[]): Promise<NativeTrackerSupport>;
}
