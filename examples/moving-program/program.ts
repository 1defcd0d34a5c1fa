/**
 * A program with RDMA connections, much like perftest: SENDs, WRITEs or READs on some queue pairs, numbered and checked. Nothing in it knows of
 * moving: all that it knows lies in its memory, and it can be made from that anywhere.
 */
import {
  CompletionBatch,
  type Domain,
  type Endpoint,
  type MemoryRegion,
  type QueuePair,
  type QueuePairOptions,
  WorkRequestBatch,
} from 'rdma-migrate/verbs';
import { AT, Layout, pageAligned, type Traffic, WORD_BYTES } from './layout.ts';

const DATA = 1;
const CREDIT = 2;
const LAST = 3;
/** Of work requests: what they are besides numbered messages. */
const CREDIT_ID = 2 ** 40;
const LAST_ID = 2 ** 41;
/** At one time. */
const HANDSHAKES = 64;
/** Between two numbers in a message. */
const STRIDE = 512;

export const ACCESS = { localWrite: true, remoteWrite: true, remoteRead: true };

export const optionsFor = (traffic: Traffic, resume: QueuePairOptions['resume']): QueuePairOptions => ({
  maxSendWr: traffic.depth + 4,
  maxRecvWr: new Layout(traffic).recvs,
  ...(resume && { resume }),
});

/** What a program has done so far. */
export interface Progress {
  readonly posted: number;
  readonly done: number;
  readonly received: number;
  readonly faults: number;
  /** Bytes of messages that have left or come. */
  readonly bytes: number;
}

/** One queue pair of the program. */
class Stream {
  readonly #layout: Layout;
  readonly #index: number;
  readonly #sends: boolean;
  readonly #numbers: Float64Array;
  readonly #words: Uint32Array;
  readonly #region: MemoryRegion;
  readonly #queuePair: QueuePair;
  readonly #send = new WorkRequestBatch(1);
  readonly #recv = new WorkRequestBatch(1);
  readonly #onEnded: () => void;
  #stop: () => void = () => {};

  constructor(program: Parts, index: number, onEnded: () => void) {
    const { layout, memory, region, queuePairs, connects } = program;
    this.#layout = layout;
    this.#index = index;
    const { from } = layout.traffic;
    this.#sends = from === 'both' || (from === 'program') === connects;
    const base = layout.numbers(index);
    this.#numbers = new Float64Array(memory.buffer, memory.byteOffset).subarray(base, base + 16);
    this.#words = new Uint32Array(memory.buffer, memory.byteOffset, memory.byteLength / 4);
    this.#region = region;
    this.#queuePair = queuePairs[index] as QueuePair;
    this.#onEnded = onEnded;
  }

  get #awaits(): boolean {
    return !this.#sends || this.#layout.traffic.from === 'both';
  }
  get isOver(): boolean {
    return (!this.#sends || this.#at(AT.isSaid) === 2) && (!this.#awaits || this.#at(AT.isHeard) === 1);
  }
  get progress(): Progress {
    const [posted, done, received, faults] = [AT.posted, AT.done, AT.received, AT.faults].map((at) =>
      this.#at(at),
    ) as [number, number, number, number];
    return { posted, done, received, faults, bytes: (done + received) * this.#layout.traffic.size };
  }

  #at(which: number): number {
    return this.#numbers[which] as number;
  }
  #put(which: number, value: number): void {
    this.#numbers[which] = value;
  }
  #fault(): void {
    this.#put(AT.faults, this.#at(AT.faults) + 1);
  }

  /** Before it is connected. */
  prepare(): void {
    for (let slot = 0; slot < this.#layout.recvs; slot += 1) this.#postRecv(slot);
    const { verb, depth, size } = this.#layout.traffic;
    if (verb === 'read')
      for (let message = 0; message < depth; message += 1)
        this.#stamp(this.#layout.targetAt(this.#index, message), size, message + 1);
  }
  /** Where the peer writes and reads, and what it has, as it was told with the connection. */
  meet(addr: bigint, key: number, received: number): void {
    this.#put(AT.peerAddr, Number(addr));
    this.#put(AT.peerKey, key);
    if (this.#layout.traffic.verb === 'send') this.#put(AT.done, received);
    this.#put(AT.posted, this.#at(AT.done));
    this.#put(AT.granted, this.#at(AT.done));
    this.#put(AT.told, this.#at(AT.received));
    this.#put(AT.credits, 0);
    if (this.#at(AT.isSaid) === 1) this.#put(AT.isSaid, 0);
    if (this.#at(AT.mayEnd) === 0) this.#put(AT.mayEnd, Date.now() + this.#layout.traffic.seconds * 1000);
  }

  run(): void {
    this.#stop = this.#queuePair.onCompletions(
      (batch) => {
        for (let at = 0; at < batch.length; at += 1) this.#take(batch, at);
        this.#go();
      },
      { batch: new CompletionBatch(64) },
    );
    this.#go();
  }
  stop(): void {
    this.#stop();
  }

  #go(): void {
    if (this.#sends) this.#sendMore();
    if (this.isOver) this.#onEnded();
  }

  #take(batch: CompletionBatch, at: number): void {
    if (!batch.isSuccess(at)) return; // the queue pair has ended, and says why
    const id = batch.wrIdNumber(at);
    if (batch.opcode(at) === 'RECV') this.#hear(id);
    else if (id === CREDIT_ID) this.#credited();
    else if (id === LAST_ID) this.#put(AT.isSaid, 2);
    else this.#done(id);
  }

  #done(number: number): void {
    const { verb, size, depth } = this.#layout.traffic;
    const due = this.#at(AT.done);
    const isRight =
      verb !== 'read' || this.#isStamped(this.#layout.outAt(this.#index, number), size, (number % depth) + 1);
    if (number !== due || !isRight) this.#fault();
    this.#put(AT.done, due + 1);
  }

  #hear(slot: number): void {
    const at = this.#layout.recvAt(this.#index, slot);
    const [kind, number] = [this.#words[at / 4], this.#words[at / 4 + 1] as number];
    if (kind === CREDIT) this.#put(AT.granted, number);
    else if (kind === LAST) this.#last(number);
    else this.#data(at, number);
    this.#postRecv(slot);
    this.#tell();
  }

  #data(at: number, number: number): void {
    const due = this.#at(AT.received);
    if (number !== due || !this.#isStamped(at, this.#layout.traffic.size, number)) this.#fault();
    this.#put(AT.received, due + 1);
  }

  /** The peer has sent so many: all of them are here. */
  #last(number: number): void {
    const { verb, depth, size } = this.#layout.traffic;
    if (verb === 'send' && this.#at(AT.received) !== number) this.#fault();
    for (let back = 1; verb === 'write' && back <= Math.min(depth, number); back += 1)
      if (!this.#isStamped(this.#layout.targetAt(this.#index, number - back), size, number - back))
        this.#fault();
    this.#put(AT.isHeard, 1);
  }

  #credited(): void {
    this.#put(AT.credits, 0);
    this.#tell();
  }

  /** Says how much room there is, each half of it, one word at a time. */
  #tell(): void {
    const { verb, depth } = this.#layout.traffic;
    const received = this.#at(AT.received);
    if (verb !== 'send' || this.#at(AT.credits) === 1 || received - this.#at(AT.told) < depth / 2) return;
    this.#put(AT.told, received);
    this.#put(AT.credits, 1);
    this.#say(0, CREDIT, received, CREDIT_ID);
  }

  #say(which: 0 | 1, kind: number, number: number, wrId: number): void {
    const at = this.#layout.wordAt(this.#index, which);
    this.#words[at / 4] = kind;
    this.#words[at / 4 + 1] = number;
    this.#post({ opcode: 'SEND', wrId, ...this.#region.range(at, WORD_BYTES) });
  }

  #sendMore(): void {
    const { iterations, depth, verb } = this.#layout.traffic;
    const isTime = iterations === 0 && Date.now() >= this.#at(AT.mayEnd);
    const end = iterations > 0 ? iterations : isTime ? this.#at(AT.posted) : Number.POSITIVE_INFINITY;
    const taken = verb === 'send' ? Math.min(this.#at(AT.done), this.#at(AT.granted)) : this.#at(AT.done);
    for (let next = this.#at(AT.posted); next < end && next - taken < depth; next += 1) {
      this.#postMessage(next);
      this.#put(AT.posted, next + 1);
    }
    if (this.#at(AT.posted) < end || this.#at(AT.done) < end || this.#at(AT.isSaid) !== 0) return;
    this.#put(AT.isSaid, 1);
    this.#say(1, LAST, this.#at(AT.done), LAST_ID);
  }

  #postMessage(number: number): void {
    const { verb, size } = this.#layout.traffic;
    const at = this.#layout.outAt(this.#index, number);
    if (verb !== 'read') this.#stamp(at, size, number);
    const local = { wrId: number, ...this.#region.range(at, size) };
    if (verb === 'send') {
      this.#post({ opcode: 'SEND', ...local });
      return;
    }
    const place = this.#layout.targetAt(this.#index, number);
    const remote = { remoteAddr: BigInt(this.#at(AT.peerAddr) + place), rkey: this.#at(AT.peerKey) };
    this.#post({ opcode: verb === 'write' ? 'RDMA_WRITE' : 'RDMA_READ', ...local, ...remote });
  }

  #post(request: Parameters<WorkRequestBatch['push']>[0]): void {
    if (this.#unlessEnded(() => this.#queuePair.postSend(this.#send.clear().push(request))) === 0)
      this.#fault();
  }
  #postRecv(slot: number): void {
    const at = this.#layout.recvAt(this.#index, slot);
    const request = {
      opcode: 'RECV',
      wrId: slot,
      ...this.#region.range(at, this.#layout.recvBytes),
    } as const;
    if (this.#unlessEnded(() => this.#queuePair.postRecv(this.#recv.clear().push(request))) === 0)
      this.#fault();
  }
  /** The peer may leave at any moment; `closed` says so. */
  #unlessEnded(post: () => number): number | undefined {
    try {
      return post();
    } catch (error) {
      if ((error as { code?: string }).code === 'CONNECTION_CLOSED') return undefined;
      throw error;
    }
  }

  #stamp(at: number, size: number, number: number): void {
    this.#words[at / 4] = DATA;
    for (let offset = 4; offset < size; offset += STRIDE) this.#words[(at + offset) >> 2] = number;
  }
  #isStamped(at: number, size: number, number: number): boolean {
    for (let offset = 4; offset < size; offset += STRIDE)
      if (this.#words[(at + offset) >> 2] !== number) return false;
    return true;
  }
}

interface Parts {
  readonly layout: Layout;
  readonly memory: Uint8Array;
  readonly region: MemoryRegion;
  readonly queuePairs: readonly QueuePair[];
  /** It is the end that has connected. */
  readonly connects: boolean;
}

export class Program {
  readonly parts: Parts;
  readonly #streams: readonly Stream[];
  /** Resolves when every queue pair has carried what it should, both ways. */
  readonly over: Promise<void>;

  constructor(parts: Parts) {
    this.parts = parts;
    let left = 0;
    let end = (): void => {};
    this.over = new Promise((resolve) => {
      end = resolve;
    });
    const ended = new Set<number>();
    this.#streams = parts.queuePairs.map(
      (_, index) =>
        new Stream(parts, index, () => {
          if (ended.has(index)) return;
          ended.add(index);
          left -= 1;
          if (left === 0) end();
        }),
    );
    left = this.#streams.length;
  }

  /** New, with its memory, and queue pairs that are not connected. `memory`: of a program that lost its connections, and makes others. */
  static async create(
    domain: Domain,
    traffic: Traffic,
    connects: boolean,
    resume: QueuePairOptions['resume'],
    given?: Uint8Array,
  ): Promise<Program> {
    const layout = new Layout(traffic);
    const memory = given ?? (await pageAligned(domain, layout.bytes));
    const region = await domain.registerMemory(memory, ACCESS);
    const options = optionsFor(traffic, resume);
    const queuePairs = Array.from({ length: traffic.queuePairs }, () => domain.createQueuePair(options));
    const program = new Program({ layout, memory, region, queuePairs, connects });
    for (const stream of program.#streams) stream.prepare();
    return program;
  }

  /** Of queue pair `index`: what its peer has to know, and what it has been told. */
  describe(index: number): Buffer {
    const said = Buffer.alloc(24);
    said.writeBigUInt64BE(this.parts.region.addr);
    said.writeUInt32BE(this.parts.region.rkey, 8);
    said.writeUInt32BE(index, 12);
    said.writeDoubleBE(this.#streams[index]?.progress.received ?? 0, 16);
    return said;
  }
  meet(index: number, said: Uint8Array): void {
    const from = Buffer.from(said);
    this.#streams[index]?.meet(from.readBigUInt64BE(), from.readUInt32BE(8), from.readDoubleBE(16));
  }

  /** Makes every connection. */
  async connect(partner: Endpoint): Promise<void> {
    const { queuePairs } = this.parts;
    let next = 0;
    const dial = async (): Promise<void> => {
      while (next < queuePairs.length) {
        const index = next++;
        const said = await queuePairs[index]?.connect(partner, { privateData: this.describe(index) });
        this.meet(index, said as Uint8Array);
      }
    };
    await Promise.all(Array.from({ length: HANDSHAKES }, dial));
  }

  run(): void {
    for (const stream of this.#streams) stream.run();
  }
  /** Nothing of it runs when this returns. */
  stop(): void {
    for (const stream of this.#streams) stream.stop();
  }

  get progress(): Progress {
    const sum = { posted: 0, done: 0, received: 0, faults: 0, bytes: 0 };
    for (const { progress } of this.#streams)
      for (const key of Object.keys(sum) as (keyof Progress)[]) sum[key] += progress[key];
    return sum;
  }
}
