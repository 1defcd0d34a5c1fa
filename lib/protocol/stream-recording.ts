/**
 * The stream before its ram section, kept twice: as it came, and in the normal form, which leaves out what holds for that one
 * migration only (its capabilities, commands to the other end) and so can be sent again to any peer.
 */
export class StreamRecording {
  readonly #original: Uint8Array[] = [];
  readonly #normal: Uint8Array[] = [];
  /** Bytes recorded. */
  size = 0;

  add(bytes: Uint8Array): void {
    this.#original.push(bytes);
    this.#normal.push(bytes);
    this.size += bytes.length;
  }

  /** A place to come back to with {@link omitSince}. */
  mark(): number {
    return this.#normal.length;
  }

  /** Leaves what was added since the mark out of the normal form. */
  omitSince(mark: number): void {
    this.#normal.length = mark;
  }

  normal(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#normal));
  }

  original(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#original));
  }
}
