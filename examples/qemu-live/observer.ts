import { once } from 'node:events';
import { Worker } from 'node:worker_threads';

export interface ObserverJob {
  /** RAM files. */
  readonly source: string;
  readonly destination: string;
  readonly stop: SharedArrayBuffer;
}

/** What was seen from outside. */
export interface Observation {
  /** From the guest's last step in the source to its first in the destination, milliseconds; absent if it never went on there. */
  readonly downtimeMs?: number;
  /** The possible error either way: the longest time between two readings before one of the two. */
  readonly uncertaintyMs?: number;
}

/** Measures how long the guest stands still by the guest's own count, without help from either end of the migration. */
export class Observer implements AsyncDisposable {
  readonly #stop = new SharedArrayBuffer(4);
  readonly #worker: Worker;
  readonly #seen: Promise<Observation>;

  constructor(files: Pick<ObserverJob, 'source' | 'destination'>, module: URL = MODULE) {
    this.#worker = new Worker(module, { workerData: { ...files, stop: this.#stop } satisfies ObserverJob });
    this.#seen = once(this.#worker, 'message').then(([seen]) => seen as Observation);
    this.#seen.catch(() => undefined);
  }

  /** Resolves when it has begun to watch. */
  async started(): Promise<this> {
    await once(this.#worker, 'online');
    return this;
  }

  /** Ends the watch. */
  finish(): Promise<Observation> {
    Atomics.store(new Int32Array(this.#stop), 0, 1);
    return this.#seen;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    Atomics.store(new Int32Array(this.#stop), 0, 1);
    await this.#worker.terminate();
  }
}

const MODULE = new URL('./observer-worker.js', import.meta.url);
