/** Latency on one queue pair, at the end that measures: one message at a time. */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import type { CompletionBatch, MigrationError, QueuePair, WorkRequestBatch } from '../../verbs/index.ts';
import { CompletionBatch as Batch } from '../../verbs/index.ts';
import type { Place, Shape } from '../wire/messages.ts';
import type { Buffers } from './buffers.ts';
import { leftInARound, unlessEnded } from './ended.ts';
import type { Over } from './lane.ts';

export const LATENCY_QUEUES = { maxSendWr: 128, maxRecvWr: 8 } as const;
/** A request in so many is signaled; a READ always is. */
const SIGNALED_EVERY = 32;
/** An hour; a round does not take longer. */
const MOST_NS = 3_600_000_000_000;

/**
 * Sends a message and waits for what the other end sends back: the same as a SEND, or as a WRITE with a note after it. A READ is there when it
 * has completed. Times go into Node's own HdrHistogram, in nanoseconds, to three digits.
 */
export class PingPong {
  readonly #queuePair: QueuePair;
  readonly #isRead: boolean;
  readonly #rooms: WorkRequestBatch;
  readonly #requests: readonly [WorkRequestBatch, WorkRequestBatch];
  #histogram = newHistogram();
  #over: Over = () => true;
  #began = 0n;
  #sent = 0;
  #settle: { resolve: (taken: RecordableHistogram) => void; reject: (error: unknown) => void } | undefined;

  constructor(queuePair: QueuePair, buffers: Buffers, { operation }: Shape, index: number, peer: Place) {
    this.#queuePair = queuePair;
    this.#isRead = operation === 'read';
    this.#rooms = buffers.rooms(4, index);
    const request = (signaled: boolean): WorkRequestBatch =>
      operation === 'write'
        ? buffers.noted('write', index, peer, signaled)
        : buffers.messages(operation, 1, index, peer, signaled || this.#isRead ? 1 : 2);
    this.#requests = [request(false), request(true)];
    queuePair.postRecv(this.#rooms);
    queuePair.onCompletions((done) => unlessEnded(queuePair, () => this.#take(done)), {
      batch: new Batch(64),
    });
    void queuePair.closed.then((reason) => this.#fail(reason));
  }

  /** Whole round trips, nanoseconds. @throws MigrationError what ended the queue pair */
  run(over: Over): Promise<RecordableHistogram> {
    this.#histogram = newHistogram();
    this.#over = over;
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#next();
    });
  }

  #next(): void {
    const signaled = ++this.#sent % SIGNALED_EVERY === 0 ? 1 : 0;
    this.#began = process.hrtime.bigint();
    this.#queuePair.postSend(this.#requests[signaled]);
  }

  #take(batch: CompletionBatch): void {
    let back = 0;
    for (let index = 0; index < batch.length; index++) {
      if (!batch.isSuccess(index)) continue;
      if (batch.opcode(index) === (this.#isRead ? 'RDMA_READ' : 'RECV')) back++;
    }
    if (back === 0 || this.#settle === undefined) return;
    const taken = Number(process.hrtime.bigint() - this.#began);
    this.#histogram.record(Math.max(1, Math.min(MOST_NS, taken)));
    try {
      if (!this.#isRead) this.#queuePair.postRecv(this.#rooms, 0, Math.min(back, this.#rooms.length));
      if (!this.#over(this.#histogram.count)) {
        this.#next();
        return;
      }
      this.#settle.resolve(this.#histogram);
    } catch (error) {
      this.#settle.reject(error);
    }
    this.#settle = undefined;
  }

  #fail(reason: MigrationError | null): void {
    this.#settle?.reject(reason ?? leftInARound());
    this.#settle = undefined;
  }
}

function newHistogram(): RecordableHistogram {
  return createHistogram({ lowest: 1, highest: MOST_NS, figures: 3 });
}
