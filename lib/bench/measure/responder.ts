/** What the listening end does on one data queue pair. */
import type { CompletionBatch, QueuePair, WorkRequestBatch } from '../../verbs/index.ts';
import { CompletionBatch as Batch } from '../../verbs/index.ts';
import type { Place, Shape } from '../wire/messages.ts';
import { type Buffers, chunkOf } from './buffers.ts';
import { unlessEnded } from './ended.ts';

/** Answers that may be under way, and every so many of them one that is signaled. */
const ANSWERS = 64;
const SIGNALED_EVERY = 16;

/** Requests of a queue pair at the listening end. */
export function responderQueues(shape: Shape): { maxSendWr: number; maxRecvWr: number } {
  return { maxSendWr: 2 * ANSWERS, maxRecvWr: roomsOf(shape) };
}

/** SENDs that may come before this end has said that it has taken them. */
function roomsOf({ operation, mode, depth }: Shape): number {
  return mode === 'throughput' && operation === 'send' ? depth : 4;
}

/**
 * Throughput: gives room for SENDs again and says so for each chunk of them; after WRITEs one note comes, and is answered as soon as they have
 * been placed. Latency: sends back what comes, as a SEND, or as a WRITE and the note that tells of it. READs need nobody.
 */
export class Responder {
  readonly #queuePair: QueuePair;
  readonly #rooms: WorkRequestBatch;
  /** All alike, but that every sixteenth is signaled. */
  readonly #answers: readonly WorkRequestBatch[];
  readonly #answerEvery: number;
  readonly #stop: () => void;
  #unanswered = 0;
  #answered = 0;

  /** Before it is accepted: the first message may come with the connection. */
  constructor(queuePair: QueuePair, buffers: Buffers, shape: Shape, index: number, peer: Place) {
    const { operation, mode, depth } = shape;
    this.#queuePair = queuePair;
    this.#rooms = buffers.rooms(roomsOf(shape), index);
    this.#answerEvery = mode === 'throughput' && operation === 'send' ? chunkOf(depth) : 1;
    this.#answers = [SIGNALED_EVERY, 1].map((chunk) => answer(buffers, shape, index, peer, chunk));
    queuePair.postRecv(this.#rooms);
    const batch = new Batch(Math.max(256, 2 * depth));
    this.#stop = queuePair.onCompletions((done) => unlessEnded(queuePair, () => this.#take(done)), { batch });
  }

  stop(): void {
    this.#stop();
  }

  #take(batch: CompletionBatch): void {
    let come = 0;
    for (let index = 0; index < batch.length; index++) {
      if (batch.isSuccess(index) && batch.opcode(index) === 'RECV') come++;
    }
    if (come === 0) return;
    this.#queuePair.postRecv(this.#rooms, 0, Math.min(come, this.#rooms.length));
    this.#unanswered += come;
    for (; this.#unanswered >= this.#answerEvery; this.#unanswered -= this.#answerEvery) {
      const signaled = ++this.#answered % SIGNALED_EVERY === 0 ? 1 : 0;
      this.#queuePair.postSend(this.#answers[signaled] as WorkRequestBatch);
    }
  }
}

function answer(
  buffers: Buffers,
  { operation, mode }: Shape,
  index: number,
  peer: Place,
  chunk: number,
): WorkRequestBatch {
  if (mode === 'latency' && operation === 'send') return buffers.messages('send', 1, index, peer, chunk);
  const signaled = chunk === 1;
  if (mode === 'latency' && operation === 'write') return buffers.noted('write', index, peer, signaled);
  return buffers.note('SEND', signaled);
}
