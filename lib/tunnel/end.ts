import type { Streams } from './streams.ts';

/** What both ends of a tunnel are: streams, and something that listens for more of them. */
export abstract class TunnelEnd implements AsyncDisposable {
  protected readonly streams: Streams;
  #closing: Promise<void> | undefined;

  protected constructor(streams: Streams) {
    this.streams = streams;
  }

  /** Idempotent. */
  protected abstract stopListening(): Promise<void>;

  /** What is left to do when nothing runs any more. */
  protected async part(): Promise<void> {}

  /**
   * Serves until the signal; with `once` until the first streams have ended.
   * @throws MigrationError with `once` why a stream failed; CANCELLED: the signal has cut streams off; LISTEN_FAILED: the device that it listened at is gone
   */
  async serve({ signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    try {
      await this.streams.serve(signal);
    } finally {
      await this.close();
    }
  }

  /** Idempotent. What is under way is reset. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await Promise.all([this.stopListening(), this.streams.close()]);
    await this.part();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
