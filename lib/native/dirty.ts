/** What the addon exports of native/dirty, declared. Nothing is decided here. Errors are `Error` objects with a `code` of lib/errors.ts. */

/** One digest a page of a mapping: of what the peer has. A fresh one says that the peer's page is zero. */
export interface NativePageDigests {
  readonly pages: number;
  /** The peer has been told that these pages are zero. */
  setZero(firstPage: number, count: number): void;
}
