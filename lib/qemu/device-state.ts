import { MigrationError } from '../errors.ts';

/** Far more than devices, tables and video memory take. */
const MOST_BYTES = 1 << 30;

/** The part of a migration that is not RAM, kept until it is wanted. */
export class DeviceState {
  readonly #from: string;
  readonly #pieces: Uint8Array[] = [];
  #bytes = 0;

  /** `from`: who says it, for messages. */
  constructor(from: string) {
    this.#from = from;
  }

  /** Copies it. @throws MigrationError PROTOCOL_ERROR: no device state is that long */
  push(bytes: Uint8Array): void {
    this.#bytes += bytes.length;
    if (this.#bytes > MOST_BYTES) {
      const message = `${this.#from} has sent more than ${MOST_BYTES} bytes of device state`;
      throw new MigrationError('PROTOCOL_ERROR', 'device-state', message);
    }
    this.#pieces.push(Buffer.from(bytes));
  }

  async *read(): AsyncGenerator<Uint8Array> {
    yield* this.#pieces;
  }
}
