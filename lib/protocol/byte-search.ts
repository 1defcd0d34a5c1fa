/** Searches a long input, which comes in pieces of any size, for some bytes. */
export class ByteSearch {
  readonly #wanted: Buffer;
  /** The end of the input so far, in which the wanted bytes may begin. */
  #tail = Buffer.alloc(0);
  #found = false;

  constructor(wanted: Uint8Array) {
    this.#wanted = Buffer.from(wanted);
  }

  get found(): boolean {
    return this.#found;
  }

  push(bytes: Uint8Array): void {
    if (this.#found) return;
    const kept = this.#wanted.length - 1;
    const piece = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const seam = Buffer.concat([this.#tail, piece.subarray(0, kept)]);
    this.#found = seam.includes(this.#wanted) || piece.includes(this.#wanted);
    this.#tail = Buffer.from(piece.length < kept ? seam.subarray(-kept) : piece.subarray(-kept));
  }
}
