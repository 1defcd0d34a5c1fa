/**
 * Bytes that have arrived and are not read yet. Copies what is pushed, so that a receive buffer can be reused at once.
 * Every byte is moved a bounded number of times on average, however small the pieces are: space already read is reclaimed
 * only when it is at least half of the buffer; otherwise the buffer doubles.
 */
export class ByteQueue {
  #buffer = new Uint8Array(512);
  #start = 0;
  #end = 0;

  get length(): number {
    return this.#end - this.#start;
  }

  push(bytes: Uint8Array): void {
    if (this.#end + bytes.length > this.#buffer.length) this.#makeRoom(bytes.length);
    this.#buffer.set(bytes, this.#end);
    this.#end += bytes.length;
  }

  /** The first byte, which is not removed. There must be one. */
  first(): number {
    return this.#buffer[this.#start] as number;
  }

  /** Removes the first `length` bytes, which must be there; a copy. */
  take(length: number): Uint8Array {
    const taken = this.#buffer.slice(this.#start, this.#start + length);
    this.#start += length;
    return taken;
  }

  #makeRoom(length: number): void {
    const needed = this.length + length;
    const reuse = this.#start * 2 >= this.#buffer.length && needed <= this.#buffer.length;
    const target = reuse ? this.#buffer : new Uint8Array(Math.max(needed, this.#buffer.length * 2));
    target.set(this.#buffer.subarray(this.#start, this.#end));
    this.#end -= this.#start;
    this.#start = 0;
    this.#buffer = target;
  }
}
