/** One end's side of the control queue pair: messages of at most 2 KiB over SENDs. */
import { MigrationError } from '../../errors.ts';
import { within } from '../../transport/wait.ts';
import type { Domain, MemoryRegion, QueuePair } from '../../verbs/index.ts';
import { unlessEnded } from '../measure/ended.ts';
import { MESSAGE_BYTES } from '../wire/codec.ts';

const ROOMS = 4;

export interface Waiting {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** "the other end's answer" */
  readonly what: string;
}

/** Messages come one at a time: who sends more than it has been answered, and more than there is room for, ends the connection. */
export class Channel implements AsyncDisposable {
  readonly queuePair: QueuePair;
  readonly #memory: MemoryRegion;
  readonly #come: Uint8Array[] = [];
  readonly #stop: () => void;
  #end: { readonly reason: MigrationError | null } | undefined;
  #wake: (() => void) | undefined;

  private constructor(queuePair: QueuePair, memory: MemoryRegion) {
    this.queuePair = queuePair;
    this.#memory = memory;
    for (let room = 0; room < ROOMS; room++) this.#postRoom(room);
    this.#stop = queuePair.onCompletions((batch) => {
      for (let index = 0; index < batch.length; index++) {
        if (!batch.isSuccess(index) || batch.opcode(index) !== 'RECV') continue;
        unlessEnded(queuePair, () => this.#take(batch.wrIdNumber(index), batch.byteLen(index)));
      }
    });
    void queuePair.closed.then((reason) => {
      // after the last messages, which have come before the end and are still to be taken
      setImmediate(() => {
        this.#end = { reason };
        this.#wake?.();
      });
    });
  }

  /** A queue pair in INIT that can be connected or accept: its RECVs are posted. */
  static async open(domain: Domain): Promise<Channel> {
    const memory = await domain.registerMemory(new SharedArrayBuffer((ROOMS + 1) * MESSAGE_BYTES));
    return new Channel(domain.createQueuePair({ maxSendWr: 8, maxRecvWr: ROOMS }), memory);
  }

  /** One message at a time is under way: whoever sends waits for its answer before the next one. */
  send(bytes: Uint8Array): void {
    this.#memory.memory.set(bytes, ROOMS * MESSAGE_BYTES);
    this.queuePair.postSend([
      { opcode: 'SEND', ...this.#memory.range(ROOMS * MESSAGE_BYTES, bytes.length), signaled: true },
    ]);
  }

  /**
   * The next message; undefined: the other end has left in good order.
   * @throws MigrationError TIMEOUT, CANCELLED, what ended the connection
   */
  async next(waiting: Waiting): Promise<Uint8Array | undefined> {
    const come = new Promise<void>((resolve) => {
      this.#wake = resolve;
      if (this.#come.length > 0 || this.#end !== undefined) resolve();
    });
    await within(come, { phase: 'verbs', ...waiting });
    const message = this.#come.shift();
    if (message !== undefined) return message;
    const reason = this.#end?.reason;
    if (reason) throw reason;
    return undefined;
  }

  /** The same, and an end is an error. */
  async must(waiting: Waiting): Promise<Uint8Array> {
    const message = await this.next(waiting);
    if (message !== undefined) return message;
    throw new MigrationError(
      'CONNECTION_CLOSED',
      'verbs',
      `the other end of the benchmark left while this one waited for ${waiting.what}`,
    );
  }

  async close(): Promise<void> {
    this.#stop();
    await this.queuePair.close();
    await this.#memory.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** A message is copied out, so that its room can receive again at once. */
  #take(room: number, length: number): void {
    const start = room * MESSAGE_BYTES;
    this.#come.push(this.#memory.memory.slice(start, start + length));
    this.#wake?.();
    if (this.#come.length > ROOMS) void this.queuePair.close();
    else this.#postRoom(room);
  }

  #postRoom(room: number): void {
    this.queuePair.postRecv([{ wrId: room, ...this.#memory.range(room * MESSAGE_BYTES, MESSAGE_BYTES) }]);
  }
}
