/**
 * The stream before its ram section in normal form, which leaves out what concerns only that one migration (its capabilities,
 * commands to the other end) and so can be sent again to any peer.
 */
export class StreamRecording {
  readonly #kept: Uint8Array[] = [];
  /** Bytes recorded, including those that were left out. */
  size = 0;

  add(bytes: Uint8Array): void {
    this.#kept.push(bytes);
    this.size += bytes.length;
  }

  /** A place to come back to with {@link omitSince}. */
  mark(): number {
    return this.#kept.length;
  }

  /** Leaves out what was added since the mark. */
  omitSince(mark: number): void {
    this.#kept.length = mark;
  }

  bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#kept));
  }
}
