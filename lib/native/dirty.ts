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
  collect(bitmaps: readonly NativeBitmap[]): Promise<bigint>;
  /** Idempotent. */
  stop(): Promise<void>;
  /** How long the last collect (before the first: start) held the guest up; 0 for kinds that do not. */
  readonly lastPauseMs: number;
  /** One a mapping for a hash tracker, none for others. They outlive the tracker. */
  readonly sent: readonly NativePageDigests[];
}

/** What this kernel has and this process may use. */
export interface NativeTrackerSupport {
  /** Linux 6.7. */
  readonly writeProtectAsync: boolean;
  /** Linux 5.7, with a privilege; `Shared`: of memfd and hugetlbfs too, Linux 5.19. */
  readonly writeProtectFaultThread: boolean;
  readonly writeProtectFaultThreadShared: boolean;
}

export interface NativeDirty {
  createWriteProtectTracker(
    mappings: readonly NativeMapping[],
    options: { mode: 'best' | 'async' | 'fault-thread' },
  ): NativeTracker;
  /** threads: that read at once, 1 to 64; 0: one for every two CPUs, at most 4. */
  createHashTracker(mappings: readonly NativeMapping[], options: { threads: number }): NativeTracker;
  probeTrackers(): Promise<NativeTrackerSupport>;
}
