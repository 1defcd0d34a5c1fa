import { MigrationError } from '../errors.ts';
import type { QmpEvent } from './messages.ts';

/** Events that an iterator holds for a slow reader. QEMU limits the rate of its frequent events, so a full queue means that the reader has stopped. */
export const MAX_QUEUED_EVENTS = 1024;

interface Waiting {
  readonly resolve: (result: IteratorResult<QmpEvent>) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * One reader's view of the events: those since its creation, in order. Ends when the connection is closed by this side,
 * and throws what broke it otherwise.
 */
export class EventQueue implements AsyncIterableIterator<QmpEvent> {
  readonly #onEnd: (queue: EventQueue) => void;
  #queued: QmpEvent[] = [];
  #waiting: Waiting[] = [];
  #end: { readonly reason: MigrationError | undefined } | undefined;

  constructor(onEnd: (queue: EventQueue) => void) {
    this.#onEnd = onEnd;
  }

  /** Adds an event; too many unread ones end the queue with an error. */
  push(event: QmpEvent): void {
    if (this.#end) return;
    const waiting = this.#waiting.shift();
    if (waiting) {
      waiting.resolve({ done: false, value: event });
      return;
    }
    this.#queued.push(event);
    if (this.#queued.length > MAX_QUEUED_EVENTS) this.end(overflow());
  }

  /** No more events. Those that are queued can still be read. Idempotent. */
  end(reason?: MigrationError): void {
    if (this.#end) return;
    this.#end = { reason };
    this.#onEnd(this);
    for (const waiting of this.#waiting.splice(0)) {
      if (reason) waiting.reject(reason);
      else waiting.resolve({ done: true, value: undefined });
    }
  }

  next(): Promise<IteratorResult<QmpEvent>> {
    const event = this.#queued.shift();
    if (event) return Promise.resolve({ done: false, value: event });
    if (this.#end?.reason) return Promise.reject(this.#end.reason);
    if (this.#end) return Promise.resolve({ done: true, value: undefined });
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  return(): Promise<IteratorResult<QmpEvent>> {
    this.#queued = [];
    this.end();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }
}

function overflow(): MigrationError {
  const message = `more than ${MAX_QUEUED_EVENTS} QMP events were not read. Read the iterator, or end it with return()`;
  return new MigrationError('PROTOCOL_ERROR', 'setup', message, { details: { limit: MAX_QUEUED_EVENTS } });
}
