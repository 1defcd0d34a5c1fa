/**
 * What the addon exports of native/memory, declared. Nothing is decided here. Every promise is settled by a worker thread:
 * no call blocks the event loop. Errors are `Error` objects with a `code` of lib/errors.ts; lib/native/index.ts wraps them.
 */

/** Pairs `offset, length` in bytes, ascending, one after the other: [o0, l0, o1, l1, ...]. */
export type NativeRuns = BigUint64Array;

export interface NativeClassification {
  /** Pages whose bit is still set: to be written. */
  readonly dataPages: bigint;
  /** Pages found zero and cleared from the bitmap. */
  readonly zeroPages: bigint;
  readonly zeroRuns: NativeRuns;
  /** Runs of pages to be written; gaps shorter than mergeGap are bridged. */
  readonly dataRuns: NativeRuns;
}

/** One bit a page, bit i of word w is page 64 w + i; set = to be sent. Shared with native threads, which take bits atomically. */
export interface NativeBitmap {
  readonly pages: number;
  setRange(firstPage: number, count: number): void;
  clearRange(firstPage: number, count: number): void;
  count(): number;
}

export interface NativeMapping {
  readonly kind: 'memfd' | 'file' | 'caller';
  readonly address: bigint;
  /** Bytes, a multiple of pageSize. */
  readonly length: bigint;
  readonly pageSize: number;
  /** Touches pages ahead of use so that receiving into them does not fault. */
  populate(offset: bigint, length: bigint): Promise<void>;
  /** Makes a range zero without touching what is zero already; mayPunch: the pages may be given back (never while a NIC pins them). */
  zero(offset: bigint, length: bigint, mayPunch: boolean): Promise<void>;
  /** Sorts the candidate pages of `bitmap` in a window into zero and data; see native/memory/classify.h. */
  classify(
    bitmap: NativeBitmap,
    window: { offset: bigint; length: bigint; minZeroRun: bigint; mergeGap: bigint },
  ): Promise<NativeClassification>;
  /** Digest of the whole content, hex; holes count as zeros. */
  digest(): Promise<string>;
  /** Makes written pages durable (files). */
  sync(): Promise<void>;
  /** Unmaps when the last pending operation has ended. Idempotent. */
  close(): Promise<void>;
}

/** Reads the page records of a plain QEMU stream's ram sections into mapped blocks. */
export interface NativePageReader {
  /**
   * Consumes bytes from `offset` on until EOS or the end of the buffer. `done`: EOS was consumed. The bytes must not change
   * until the promise settles. Records may be split anywhere between calls.
   */
  push(bytes: Uint8Array, offset: number): Promise<{ consumed: number; done: boolean }>;
  /** The section may end and a new one begin; the last block stays known as QEMU's CONTINUE flag demands. */
  readonly pagesRead: bigint;
  readonly zeroPages: bigint;
}

/** Writes page records of mapped blocks for a plain QEMU stream's ram section. */
export interface NativePageWriter {
  /** Fills `buffer` with whole records; `done`: everything has been written (EOS not included). */
  fill(buffer: Uint8Array): Promise<{ length: number; done: boolean }>;
  readonly pagesWritten: bigint;
  readonly zeroPages: bigint;
}

export interface NativeMemory {
  mapMemfd(options: { name: string; length: bigint; hugePageSize?: number }): Promise<NativeMapping>;
  /** create: the file must not exist, is made sparse with that length. write, read: it exists and has at least that length. */
  mapFile(options: {
    path: string;
    length: bigint;
    mode: 'create' | 'write' | 'read';
  }): Promise<NativeMapping>;
  /** A range of this process that the caller owns and keeps mapped until close. */
  mapCaller(options: { address: bigint; length: bigint }): Promise<NativeMapping>;
  createBitmap(pages: number): NativeBitmap;
  createPageReader(blocks: readonly { name: string; mapping: NativeMapping }[]): NativePageReader;
  createPageWriter(blocks: readonly { name: string; mapping: NativeMapping }[]): NativePageWriter;
}
