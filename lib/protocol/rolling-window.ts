const BLOCK_BYTES = 64 * 1024;

/**
 * The last bytes of a long input: at least `limit` of them (a multiple of 64 KiB) and at most one block more, in blocks of
 * 64 KiB, so that many small pieces cost no more than a few large ones. Memory grows with the input, up to the limit. Every
 * full block is handed to `onBlock` once. Indexes count from the first byte that was ever pushed.
 */
export class RollingWindow {
  readonly #maxBlocks: number;
  readonly #onBlock: (block: Uint8Array) => void;
  readonly #full: Uint8Array<ArrayBuffer>[] = [];
  #block = new Uint8Array(BLOCK_BYTES);
  #used = 0;
  #dropped = 0;

  constructor(limit: number, onBlock: (block: Uint8Array) => void) {
    this.#maxBlocks = Math.ceil(limit / BLOCK_BYTES);
    this.#onBlock = onBlock;
  }

  /** Index of the oldest byte that is kept. */
  get start(): number {
    return this.#dropped * BLOCK_BYTES;
  }

  /** Bytes that were ever pushed: the index after the newest. */
  get end(): number {
    return (this.#dropped + this.#full.length) * BLOCK_BYTES + this.#used;
  }

  /** The block that is not full yet. */
  get unfinished(): Uint8Array {
    return this.#block.subarray(0, this.#used);
  }

  push(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length; ) {
      const piece = bytes.subarray(at, at + BLOCK_BYTES - this.#used);
      this.#block.set(piece, this.#used);
      this.#used += piece.length;
      at += piece.length;
      if (this.#used === BLOCK_BYTES) this.#turn();
    }
  }

  /** The byte at an index from start to end. */
  at(index: number): number {
    const block = this.#full[Math.floor(index / BLOCK_BYTES) - this.#dropped] ?? this.#block;
    return block[index % BLOCK_BYTES] as number;
  }

  /** Everything from an index on; a copy. */
  from(index: number): Uint8Array {
    const first = Math.floor(index / BLOCK_BYTES) - this.#dropped;
    return Buffer.concat([...this.#full.slice(first), this.unfinished]).subarray(index % BLOCK_BYTES);
  }

  #turn(): void {
    this.#onBlock(this.#block);
    this.#full.push(this.#block);
    const oldest = this.#full.length > this.#maxBlocks ? this.#full.shift() : undefined;
    if (oldest) this.#dropped += 1;
    this.#block = oldest ?? new Uint8Array(BLOCK_BYTES);
    this.#used = 0;
  }
}
