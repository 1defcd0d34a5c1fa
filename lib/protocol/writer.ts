import { MigrationError } from '../errors.ts';

const U64_MAX = 0xffff_ffff_ffff_ffffn;

/**
 * Builds big-endian bytes field by field: `new Writer().u32(1).u64(2n).finish()`. A value that its field cannot hold throws
 * INVALID_ARGUMENT instead of being truncated: a truncated address would mean a write to the wrong place.
 */
export class Writer {
  #bytes: Uint8Array;
  #view: DataView;
  #length = 0;

  /** `size`: expected number of bytes; the buffer grows if more come. */
  constructor(size = 64) {
    this.#bytes = new Uint8Array(size);
    this.#view = new DataView(this.#bytes.buffer);
  }

  u8(value: number): this {
    checkUnsigned(value, 0xff);
    const at = this.#reserve(1);
    this.#view.setUint8(at, value);
    return this;
  }

  u16(value: number): this {
    checkUnsigned(value, 0xffff);
    const at = this.#reserve(2);
    this.#view.setUint16(at, value);
    return this;
  }

  u32(value: number): this {
    checkUnsigned(value, 0xffff_ffff);
    const at = this.#reserve(4);
    this.#view.setUint32(at, value);
    return this;
  }

  u64(value: bigint): this {
    if (value < 0n || value > U64_MAX) throw outOfRange(value, U64_MAX);
    const at = this.#reserve(8);
    this.#view.setBigUint64(at, value);
    return this;
  }

  bytes(value: Uint8Array): this {
    const at = this.#reserve(value.length);
    this.#bytes.set(value, at);
    return this;
  }

  /** What was written. Do not use the writer afterwards: the result is a view of its buffer. */
  finish(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  #reserve(length: number): number {
    const at = this.#length;
    const needed = at + length;
    if (needed > this.#bytes.length) this.#grow(needed);
    this.#length = needed;
    return at;
  }

  #grow(needed: number): void {
    const grown = new Uint8Array(Math.max(needed, this.#bytes.length * 2));
    grown.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = grown;
    this.#view = new DataView(grown.buffer);
  }
}

function checkUnsigned(value: number, max: number): void {
  if (!Number.isInteger(value) || value < 0 || value > max) throw outOfRange(value, max);
}

function outOfRange(value: number | bigint, max: number | bigint): MigrationError {
  return new MigrationError(
    'INVALID_ARGUMENT',
    'configure',
    `Expected an integer from 0 to ${max} for a field of the protocol but received ${value}`,
    { details: { value, max } },
  );
}
