import { MigrationError, type Phase } from '../errors.ts';

/**
 * Reads big-endian fields of one message, in order. A read past the end throws PROTOCOL_ERROR: lengths that a peer sent are
 * never trusted further than the bytes that came with them.
 */
export class Cursor {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #what: string;
  readonly #phase: Phase;
  #position = 0;

  /** `what` names the message in errors, such as `COMPRESS`. The bytes are viewed, not copied. */
  constructor(bytes: Uint8Array, what: string, phase: Phase) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#what = what;
    this.#phase = phase;
  }

  get remaining(): number {
    return this.#bytes.length - this.#position;
  }

  u16(): number {
    return this.#view.getUint16(this.#advance(2));
  }

  u32(): number {
    return this.#view.getUint32(this.#advance(4));
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#advance(8));
  }

  /** The next `length` bytes, as a view of the input. */
  bytes(length: number): Uint8Array {
    const start = this.#advance(length);
    return this.#bytes.subarray(start, start + length);
  }

  #advance(length: number): number {
    const start = this.#position;
    if (length > this.remaining) {
      throw new MigrationError(
        'PROTOCOL_ERROR',
        this.#phase,
        `${this.#what} ends after ${this.#bytes.length} bytes, at least ${start + length} are needed`,
        { details: { needed: start + length, received: this.#bytes.length } },
      );
    }
    this.#position = start + length;
    return start;
  }
}
