/** Throughput on one queue pair, at the end that measures. */
import type { CompletionBatch, MigrationError, QueuePair, WorkRequestBatch } from '../../verbs/index.ts';
import { CompletionBatch as Batch } from '../../verbs/index.ts';
import type { Place, Shape } from '../wire/messages.ts';
import { type Buffers, chunkOf } from './buffers.ts';
import { leftInARound, unlessEnded } from './ended.ts';

/** Whether so many messages are enough. Asked before each post. */
export type Over = (messages: number) => boolean;

/** Requests of a queue pair at the end that measures. */
export function laneQueues({ depth }: Shape): { maxSendWr: number; maxRecvWr: number } {
  return { maxSendWr: depth + 8, maxRecvWr: depth / chunkOf(depth) + 4 };
}

/**
 * Keeps `depth` messages under way, posted in chunks. A WRITE or READ is under way until it has completed, a SEND until the other end has said that
 * it has taken it. The end of WRITEs is a note that is answered when they have been placed.
 */
export class Lane {
  readonly #queuePair: QueuePair;
  readonly #shape: Shape;
  readonly #chunk: number;
  readonly #requests: WorkRequestBatch;
  readonly #note: WorkRequestBatch;
  readonly #room: WorkRequestBatch;
  #posted = 0;
  #done = 0;
  #over: Over = () => true;
  #noteSent = false;
  #settle: { resolve: (messages: number) => void; reject: (error: unknown) => void } | undefined;

  constructor(queuePair: QueuePair, buffers: Buffers, shape: Shape, index: number, peer: Place) {
    const { depth, operation } = shape;
    this.#queuePair = queuePair;
    this.#shape = shape;
    this.#chunk = chunkOf(depth);
    this.#requests = buffers.messages(operation, depth, index, peer, this.#chunk);
    this.#note = buffers.note('SEND', true);
    this.#room = buffers.note('RECV');
    for (let rooms = depth / this.#chunk + 2; rooms > 0; rooms--) queuePair.postRecv(this.#room);
    queuePair.onCompletions((done) => unlessEnded(queuePair, () => this.#take(done)), {
      batch: new Batch(Math.max(256, depth)),
    });
    void queuePair.closed.then((reason) => this.#fail(reason));
  }

  /**
   * Posts until `over`, waits for what is under way, and gives the messages.
   * @throws MigrationError what ended the queue pair
   */
  run(over: Over): Promise<number> {
    this.#posted = 0;
    this.#done = 0;
    this.#noteSent = false;
    this.#over = over;
    return new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
      this.#pump();
    });
  }

  #fail(reason: MigrationError | null): void {
    this.#settle?.reject(reason ?? leftInARound());
    this.#settle = undefined;
  }

  #pump(): void {
    try {
      while (this.#mayPost() && this.#post());
      this.#finish();
    } catch (error) {
      this.#settle?.reject(error);
      this.#settle = undefined;
    }
  }

  #mayPost(): boolean {
    if (this.#posted % this.#chunk !== 0) return true; // the rest of a chunk that the queue had no room for
    return this.#posted - this.#done + this.#chunk <= this.#shape.depth && !this.#over(this.#posted);
  }

  /** @returns whether the queue took all of it */
  #post(): boolean {
    const count = this.#chunk - (this.#posted % this.#chunk);
    const taken = this.#queuePair.postSend(this.#requests, this.#posted % this.#shape.depth, count);
    this.#posted += taken;
    return taken === count;
  }

  #finish(): void {
    if (this.#done !== this.#posted || !this.#over(this.#posted)) return;
    if (this.#shape.operation === 'write' && !this.#noteSent) {
      this.#noteSent = true;
      this.#queuePair.postSend(this.#note);
      return;
    }
    if (this.#shape.operation !== 'write') this.#end();
  }

  #end(): void {
    this.#settle?.resolve(this.#done);
    this.#settle = undefined;
  }

  #take(batch: CompletionBatch): void {
    let answers = 0;
    let chunks = 0;
    for (let index = 0; index < batch.length; index++) {
      if (!batch.isSuccess(index)) continue;
      const opcode = batch.opcode(index);
      if (opcode === 'RECV') answers++;
      else if (opcode !== 'SEND') chunks++;
    }
    for (let rooms = 0; rooms < answers; rooms++) this.#queuePair.postRecv(this.#room);
    if (this.#settle === undefined) return;
    this.#done += this.#chunk * (this.#shape.operation === 'send' ? answers : chunks);
    if (this.#shape.operation === 'write' && answers > 0) this.#end();
    else this.#pump();
  }
}
