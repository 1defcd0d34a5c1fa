/** Builds expected bytes without the product's writer. */
export class Builder {
  readonly #parts: Buffer[] = [];

  u8(value: number): this {
    return this.#number(BigInt(value), 1);
  }

  u16(value: number): this {
    return this.#number(BigInt(value), 2);
  }

  u32(value: number): this {
    return this.#number(BigInt(value), 4);
  }

  u64(value: bigint): this {
    return this.#number(value, 8);
  }

  raw(bytes: Uint8Array): this {
    this.#parts.push(Buffer.from(bytes));
    return this;
  }

  hex(text: string): this {
    return this.raw(Buffer.from(text, 'hex'));
  }

  text(text: string): this {
    return this.raw(Buffer.from(text, 'utf8'));
  }

  counted(text: string): this {
    return this.u8(Buffer.byteLength(text)).text(text);
  }

  bytes(): Uint8Array {
    return new Uint8Array(Buffer.concat(this.#parts));
  }

  #number(value: bigint, size: number): this {
    return this.hex(value.toString(16).padStart(size * 2, '0'));
  }
}

export function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

/** One control message by its fields. */
export function control(type: number, repeat: number, data: Uint8Array, padding = 0): Uint8Array {
  return new Builder().u32(data.length).u32(type).u32(repeat).u32(padding).raw(data).bytes();
}
