import type { Writable } from 'node:stream';
import { MigrationError } from '../errors.ts';
import { codeOf, imageError, throwIfAborted } from './errors.ts';
import { untilAborted } from './stream-input.ts';

/** A Writable with promises: each write is over when the bytes were accepted, so that at most one is waiting. */
export class StreamOutput {
  readonly #output: Writable;
  readonly #signal: AbortSignal | undefined;
  readonly #action: string;
  #written = 0n;
  #failed = false;
  /** Node throws an `error` event that has no listener; each write gets the error anyway. */
  readonly #onError = (): void => {
    this.#failed = true;
  };

  constructor(output: Writable, signal: AbortSignal | undefined, action: string) {
    this.#output = output;
    this.#signal = signal;
    this.#action = action;
    output.on('error', this.#onError);
  }

  /** Bytes that the output has accepted. */
  get written(): bigint {
    return this.#written;
  }

  /**
   * The bytes must not change until the promise settles; after CANCELLED, never.
   * @throws MigrationError CONNECTION_CLOSED: the reader of the pipe is gone. DISK_FULL, IO_ERROR, CANCELLED.
   */
  async write(bytes: Uint8Array): Promise<void> {
    throwIfAborted(this.#signal, this.#action);
    if (bytes.length === 0) return;
    const taken = new Promise<void>((resolve, reject) => {
      this.#output.write(bytes, (error) => {
        if (error == null) return resolve();
        this.#failed = true;
        reject(this.#outputError(error));
      });
    });
    await untilAborted(taken, this.#signal, this.#action);
    this.#written += BigInt(bytes.length);
  }

  /** Releases the output, which its owner ends. After a failure the event may still be on its way. */
  release(): void {
    if (!this.#failed) this.#output.off('error', this.#onError);
  }

  #outputError(error: Error): MigrationError {
    const gone = ['EPIPE', 'ECONNRESET', 'ERR_STREAM_DESTROYED', 'ERR_STREAM_WRITE_AFTER_END'];
    if (!gone.includes(codeOf(error) ?? '')) return imageError(error, this.#action);
    const message =
      `${this.#action}: the reader of the output closed it after ${this.#written} bytes (${codeOf(error)}). ` +
      'Look there for the reason; the image is unharmed';
    return new MigrationError('CONNECTION_CLOSED', 'image', message, { cause: error });
  }
}
