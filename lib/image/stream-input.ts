import { raceAbort } from '../abort.ts';
import { MigrationError } from '../errors.ts';
import { cancelled, codeOf, imageError } from './errors.ts';

/**
 * A stream that is being read. It requests the first chunk at once: Node discards what a process wrote to a pipe if
 * the process ends before reading has begun, and throws an `error` event that has no listener.
 */
export class StreamInput {
  readonly #input: AsyncIterable<Uint8Array>;
  readonly #iterator: AsyncIterator<Uint8Array>;
  readonly #signal: AbortSignal | undefined;
  readonly #action: string;
  #next: Promise<IteratorResult<Uint8Array>>;
  #ended = false;

  constructor(input: AsyncIterable<Uint8Array>, signal: AbortSignal | undefined, action: string) {
    this.#input = input;
    this.#iterator = input[Symbol.asyncIterator]();
    this.#signal = signal;
    this.#action = action;
    this.#next = this.#request();
  }

  /**
   * The chunks until the input ends; each may be used until the next one is asked for.
   * @throws MigrationError CANCELLED, STREAM_TRUNCATED (a Readable that was destroyed before its end), IO_ERROR.
   */
  async *chunks(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        const next = await untilAborted(this.#next, this.#signal, this.#action);
        this.#ended = next.done ?? false;
        if (this.#ended) return;
        yield checkBytes(next.value);
        this.#next = this.#request();
      }
    } catch (error) {
      throw inputError(error, this.#action);
    }
  }

  /**
   * Ends an input before its end: a Readable is destroyed, so that the writer of the pipe notices; another
   * iterator is told to return but not waited for, because it may be in the middle of a next() that never ends.
   */
  stop(): void {
    if (this.#ended) return;
    this.#ended = true;
    if ('destroy' in this.#input && typeof this.#input.destroy === 'function') this.#input.destroy();
    else void Promise.resolve(this.#iterator.return?.()).catch(() => undefined);
  }

  /** A failure is reported when the chunk is awaited; until then it is not an unhandled rejection. */
  #request(): Promise<IteratorResult<Uint8Array>> {
    const next = this.#iterator.next();
    next.catch(() => undefined);
    return next;
  }
}

/** The promise's outcome, or CANCELLED as soon as the signal is aborted; the promise is then abandoned. */
export function untilAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  action: string,
): Promise<T> {
  return raceAbort(promise, signal, () => cancelled(action, signal));
}

function checkBytes(chunk: unknown): Uint8Array {
  if (chunk instanceof Uint8Array) return chunk;
  const message = `the QEMU stream: expected chunks of type Uint8Array but received ${typeof chunk}: set no encoding`;
  throw new MigrationError('INVALID_ARGUMENT', 'image', message);
}

function inputError(error: unknown, action: string): MigrationError {
  if (codeOf(error) !== 'ERR_STREAM_PREMATURE_CLOSE') return imageError(error, action);
  const message = `${action}: the input was closed before its end`;
  return new MigrationError('STREAM_TRUNCATED', 'image', message, { cause: error });
}
