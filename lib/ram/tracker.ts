/** How writes to a running guest's RAM are detected. */
export type TrackerKind = 'write-protect' | 'soft-dirty' | 'bitmap' | 'hash';

/**
 * One bit for each page of a block, of its mapping's `pageSize`; set: to be sent. Shared with native threads, which take bits atomically. Page
 * numbers past the end throw INVALID_ARGUMENT.
 */
export interface PageBitmap {
  readonly pages: number;
  /** Sets the bits of `count` pages. */
  setRange(firstPage: number, count: number): void;
  /** Clears the bits of `count` pages. */
  clearRange(firstPage: number, count: number): void;
  /** Bits that are set. */
  count(): number;
}

/** One digest for each page of a block: of what the peer has. Made by the tracker of kind `hash` alone. */
export interface PageDigests {
  readonly pages: number;
  /** The peer has been told that these pages are zero. Called before the pages may be sent again. */
  setZero(firstPage: number, count: number): void;
}

/**
 * Detects which pages of a VM's RAM blocks are written while the guest runs. One instance serves one migration: start, any
 * number of collects, stop.
 */
export interface DirtyTracker extends AsyncDisposable {
  readonly kind: TrackerKind;
  /**
   * Begins to watch. Every page written after this has resolved shows in a later {@link collect}; pages written before it may.
   * @throws MigrationError TRACKER_UNAVAILABLE, OUT_OF_MEMORY
   */
  start(): Promise<void>;
  /**
   * Sets the bit of each page that was written since `start` or the last call, in one bitmap per block, in the order of the blocks,
   * and forgets it. Bits already set stay. Resolves with the number of pages found written. A page that is written while this
   * runs shows in this call or in the next. One call at a time.
   */
  collect(bitmaps: readonly PageBitmap[]): Promise<bigint>;
  /** Ends the watch and releases everything; a failing migration calls it without waiting for a `start` or `collect` under way. Idempotent. Never throws. */
  stop(): Promise<void>;
  /**
   * Where the engine records what it has sent of each block, for a tracker that compares content. With it pages are copied and
   * digested on their way: what reached the peer is then known, whatever the guest does meanwhile.
   */
  readonly sent?: readonly PageDigests[];
}
