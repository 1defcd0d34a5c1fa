import { setImmediate as turn } from 'node:timers/promises';
import { raceAbort } from '../abort.ts';
import type { MigrationError } from '../errors.ts';
import type { NativeVerbsQueuePair } from '../native/verbs.ts';
import { invalid } from '../options/check.ts';
import type { CompletionBatch } from './completion-batch.ts';
import { calling, cancelled } from './failure.ts';

/** Batches in a row, without a wait, after which the event loop has its turn: completions must not starve timers and sockets. */
const BATCHES_IN_A_TURN = 64;

/** Hands a queue pair's completions to whoever consumes them. */
export class CompletionReader {
  readonly #native: NativeVerbsQueuePair;
  readonly #closed: Promise<MigrationError | null>;
  #taken = false;
  #wake: (() => void) | undefined;

  constructor(native: NativeVerbsQueuePair, closed: Promise<MigrationError | null>) {
    this.#native = native;
    this.#closed = closed;
  }

  /** There are completions, or the queue pair has ended. */
  wake(): void {
    this.#wake?.();
  }

  poll(batch: CompletionBatch): number {
    const count = Math.max(0, this.#poll(batch, false));
    batch.length = count;
    return count;
  }

  /** @throws MigrationError INVALID_ARGUMENT (a batch whose buffer has been detached) */
  #poll(batch: CompletionBatch, arm: boolean): number {
    return calling('verbs', () => this.#native.poll(batch.bytes, arm));
  }

  async *read(
    batch: CompletionBatch,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<CompletionBatch, void, undefined> {
    this.#take();
    try {
      for (let inTurn = 1; ; inTurn += 1) {
        if (signal?.aborted) throw this.#cancelled(signal);
        const woken = this.#nextWake();
        const count = this.#poll(batch, true);
        if (count < 0) return await this.#end();
        if (count === 0) {
          await raceAbort(woken, signal, () => this.#cancelled(signal));
          inTurn = 0;
          continue;
        }
        batch.length = count;
        yield batch;
        if (inTurn % BATCHES_IN_A_TURN === 0) await turn();
      }
    } finally {
      this.#release();
    }
  }

  listen(
    callback: (batch: CompletionBatch) => void,
    batch: CompletionBatch,
    signal: AbortSignal | undefined,
  ): () => void {
    this.#take();
    let stopped = false;
    let waiting: NodeJS.Immediate | undefined;
    const drain = (): void => {
      waiting = undefined;
      for (let inTurn = 0; inTurn < BATCHES_IN_A_TURN && !stopped; inTurn += 1) {
        const count = this.#poll(batch, true);
        if (count < 0) stop();
        if (count <= 0) return;
        batch.length = count;
        tell(callback, batch);
      }
      if (!stopped) waiting = setImmediate(drain);
    };
    const stop = (): void => {
      if (stopped) return;
      stopped = true;
      clearImmediate(waiting);
      signal?.removeEventListener('abort', stop);
      this.#release();
    };
    this.#wake = () => {
      if (waiting === undefined) drain();
    };
    waiting = setImmediate(drain);
    if (signal?.aborted) stop();
    signal?.addEventListener('abort', stop, { once: true });
    return stop;
  }

  #nextWake(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }

  async #end(): Promise<void> {
    const reason = await this.#closed;
    if (reason !== null) throw reason;
  }

  #take(): void {
    if (this.#taken) throw invalid('somebody takes the completions of this queue pair already');
    this.#taken = true;
  }

  #release(): void {
    this.#taken = false;
    this.#wake = undefined;
  }

  #cancelled(signal: AbortSignal | undefined): MigrationError {
    return cancelled(signal, 'verbs', 'the wait for completions');
  }
}

/** What a callback throws must not lose the completions after it. */
function tell(callback: (batch: CompletionBatch) => void, batch: CompletionBatch): void {
  try {
    callback(batch);
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}
