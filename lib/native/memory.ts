/**
 * What the addon exports of native/memory, declared. Nothing is decided here. Every promise is settled by a worker thread:
 * no call blocks the event loop. Errors are `Error` objects with a `code` of lib/errors.ts; lib/native/index.ts wraps them.
 */

/** Pairs `offset, length` in bytes, ascending, one after the other: [o0, l0, o1, l1, ...]. */
export type NativeRuns = BigUint64Array;

export interface NativeClassification {
  /** As far as it has come, bytes from the mapping's begin: less than the window where `mostRead` was read before. */
  readonly end: bigint;
  /** Pages whose bit is set when it ends: to be written. */
  readonly dataPages: bigint;
  /** Pages found zero and cleared from the bitmap. */
  readonly zeroPages: bigint;
  readonly zeroRuns: NativeRuns;
  /** Runs of pages to be written; gaps shorter than mergeGap are bridged. */
  readonly dataRuns: NativeRuns;
}

/**
 * One bit a page of the mapping's `pageSize`, bit i of word w is page 64 w + i; set = to be sent. Shared with native threads,
 * which take bits atomically. Page numbers past the end throw INVALID_ARGUMENT.
 */
export interface NativeBitmap {
  readonly pages: number;
  setRange(firstPage: number, count: number): void;
  clearRange(firstPage: number, count: number): void;
  count(): number;
  /**
   * What is set of each `pagesPerCell` pages in a row, a power of two; the last cell may have fewer. 0: none of them, 255: all, between: in
   * proportion, and a little more while bits change. 65,536 cells at most. Meant for a picture: microseconds, at 64 GiB with 4096 cells some
   * hundred of them.
   */
  shares(pagesPerCell: number): Uint8Array;
}

/**
 * Mapped memory. After `close()` every operation is refused with CLOSED; the properties stay. What native code holds (a
 * registered region, a running write) stays mapped until it lets go. A mapping that is garbage collected unmaps too, but on the
 * event loop's thread.
 */
export interface NativeMapping {
  readonly kind: 'memfd' | 'file' | 'caller';
  readonly address: bigint;
  /** Bytes, a multiple of pageSize. */
  readonly length: bigint;
  readonly pageSize: number;
  /** The software RNIC fills its empty pages through the file, without a first touch. */
  readonly fillsThroughFile: boolean;
  /**
   * Touches pages ahead of use so that receiving into them does not fault. Changes no byte. keepFree (default false): ends early, and
   * without an error, where more than a quarter of what its file system has free would be taken at once.
   * DISK_FULL, OUT_OF_MEMORY, IO_ERROR, CANCELLED (closed meanwhile).
   */
  populate(offset: bigint, length: bigint, keepFree?: boolean): Promise<void>;
  /**
   * Makes a range zero, of any alignment, without touching what is zero already; mayPunch: the pages may be given back (never
   * while a NIC pins them). DISK_FULL, IO_ERROR, CANCELLED.
   */
  zero(offset: bigint, length: bigint, mayPunch: boolean): Promise<void>;
  /**
   * Sorts the candidate pages of `bitmap` in a window of whole pages into zero and data. While a guest runs, send the zero
   * runs before any page whose bit is set after the call began; native/memory/classify.h says why. One call at a time for a
   * window. An error gives every bit back. After `mostRead` bytes have been read it ends early, within 16 MiB or one page. What is zero
   * is noted in `zeros`, as many pages as `bitmap`, and what is not is taken out.
   */
  classify(
    bitmap: NativeBitmap,
    window: { offset: bigint; length: bigint; minZeroRun: bigint; mergeGap: bigint; mostRead: bigint },
    zeros?: NativeBitmap,
  ): Promise<NativeClassification>;
  /**
   * 256-bit digest of the whole content as 64 hex digits; holes count as zeros and are not read. An integrity check, not a
   * cryptographic hash: native/memory/digest.h.
   */
  digest(): Promise<string>;
  /**
   * The same of each `chunkBytes` of a range (multiples of 4096), 32 bytes each, little-endian; the last chunk may be shorter. INVALID_ARGUMENT, IO_ERROR,
   * CANCELLED.
   */
  digestChunks(offset: bigint, length: bigint, chunkBytes: bigint): Promise<Uint8Array>;
  /** How far the digest that was begun last has come, bytes from the beginning, holes included. */
  readonly digested: bigint;
  /** Makes written pages durable (files). */
  sync(): Promise<void>;
  /** Cancels pending operations where they can be, and unmaps when the last has ended. Idempotent. */
  close(): Promise<void>;
}

/** A block with pages that were not told of: its index, how many, and the offset in bytes of the first. */
export interface NativeMissing {
  readonly block: number;
  readonly pages: bigint;
  readonly first: bigint;
}

/** Which pages of some blocks have been told of. Shared with native threads. */
export interface NativeCoverage {
  /** The whole pages of a range of a block; a page that is told in part is not told. */
  add(block: number, offset: bigint, length: bigint): void;
  /** What has been told of each `pagesPerCell` pages of a block; {@link NativeBitmap.shares}. */
  shares(block: number, pagesPerCell: number): Uint8Array;
  /** The blocks with pages that were not told, in order. */
  missing(): readonly NativeMissing[];
}

/** Reads the page records of a plain QEMU stream's ram sections into mapped blocks. */
export interface NativePageReader {
  /**
   * Consumes bytes from `offset` on until EOS or the end of the buffer. `done`: EOS was consumed. The bytes must not change
   * until the promise settles. Records may be split anywhere between calls.
   */
  push(bytes: Uint8Array, offset: number): Promise<{ consumed: number; done: boolean }>;
  // After EOS a new section may begin; the last block stays known as QEMU's CONTINUE flag demands. One push at a time. After a
  // STREAM_ERROR the reader cannot go on.
  /** The blocks with pages that no record was about, in order. */
  missing(): readonly NativeMissing[];
  /** All pages so far, zero ones included. */
  readonly pagesRead: bigint;
  readonly zeroPages: bigint;
}

/** Writes page records of mapped blocks for a plain QEMU stream's ram section. */
export interface NativePageWriter {
  /**
   * Fills `buffer` (at least 4360 bytes) with whole records; `done`: everything has been written (EOS not included). One fill
   * at a time; the buffer is not to be touched until the promise settles.
   */
  fill(buffer: Uint8Array): Promise<{ length: number; done: boolean }>;
  /** All pages so far, zero ones included. */
  readonly pagesWritten: bigint;
  readonly zeroPages: bigint;
}

export interface NativeMemory {
  /** hugePageSize: bytes, one of /sys/kernel/mm/hugepages; the pages are reserved at once. */
  mapMemfd(options: { name: string; length: bigint; hugePageSize?: number }): Promise<NativeMapping>;
  /** create: the file must not exist, is made sparse with that length. write, read: it exists and has at least that length. */
  mapFile(options: {
    path: string;
    length: bigint;
    mode: 'create' | 'write' | 'read';
  }): Promise<NativeMapping>;
  /**
   * A range of this process that the caller owns and keeps mapped, as it is, until close. fd: the file behind a shared range (it
   * is duplicated); without it the holes of shared memory cannot be told and count as data. coreDumps false: the range goes into none.
   */
  mapCaller(options: {
    address: bigint;
    length: bigint;
    fd?: number;
    coreDumps?: boolean;
  }): Promise<NativeMapping>;
  createBitmap(pages: number): NativeBitmap;
  /** `lengths` of the blocks, in bytes; `pageSize` a power of two. */
  createCoverage(lengths: readonly bigint[], pageSize: number): NativeCoverage;
  createPageReader(blocks: readonly { name: string; mapping: NativeMapping }[]): NativePageReader;
  createPageWriter(blocks: readonly { name: string; mapping: NativeMapping }[]): NativePageWriter;
}
