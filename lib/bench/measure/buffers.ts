/** Registered memory of a measurement at one end, and the requests that use it. */
import { type Domain, type MemoryRegion, WorkRequestBatch } from '../../verbs/index.ts';
import { MOST_BUFFERS, type Ring, ringOf } from '../limits.ts';
import type { Operation, Place, Shape } from '../wire/messages.ts';

/** What is told beside messages: a credit, the end of WRITEs. */
export const NOTE_BYTES = 8;
/** One to send, and room for one. */
const NOTES_BYTES = 2 * NOTE_BYTES;
const MOST_CHUNK = 256;

/** Messages that are posted with one call, and have one completion: JavaScript's share is paid once for each. */
export function chunkOf(depth: number): number {
  let chunk = Math.max(1, Math.min(MOST_CHUNK, Math.floor(depth / 4)));
  while (depth % chunk !== 0) chunk--; // whole chunks, so that all of the depth is under way
  return chunk;
}

/**
 * What one end's buffers are made of, one measurement after the other: reserved once, and resident as far as the largest one has asked for.
 * Shared memory goes only with the garbage collector, which does not count it: who made a new piece for each measurement would hold them all.
 */
export class BufferMemory {
  #bytes: Uint8Array | undefined;
  #written = 0;

  /** As many bytes from its start. */
  take(length: number): Uint8Array {
    this.#bytes ??= new Uint8Array(new SharedArrayBuffer(MOST_BUFFERS + NOTES_BYTES));
    // Untouched memory is one page of zeros: reading it would measure nothing but a cache.
    if (length > this.#written) this.#bytes.fill(0xa5, this.#written, length);
    this.#written = Math.max(this.#written, length);
    return this.#bytes.subarray(0, length);
  }
}

/** A ring for each queue pair, and a place for notes after them. */
export class Buffers implements AsyncDisposable {
  readonly ring: Ring;
  readonly #region: MemoryRegion;
  readonly #notes: number;
  readonly #messageBytes: number;

  private constructor(region: MemoryRegion, ring: Ring, notes: number, messageBytes: number) {
    this.#region = region;
    this.ring = ring;
    this.#notes = notes;
    this.#messageBytes = messageBytes;
  }

  /** One measurement at a time uses the memory. */
  static async register(
    domain: Domain,
    memory: BufferMemory,
    { messageBytes, depth, queuePairs }: Shape,
  ): Promise<Buffers> {
    const ring = ringOf(messageBytes, depth);
    const notes = ring.bytes * queuePairs;
    const access = { localWrite: true, remoteWrite: true, remoteRead: true };
    const region = await domain.registerMemory(memory.take(notes + NOTES_BYTES), access);
    return new Buffers(region, ring, notes, messageBytes);
  }

  /** For the other end: the rings alone. */
  get place(): Place {
    return { addr: this.#region.addr, length: this.#notes, rkey: this.#region.rkey };
  }

  /** Requests over the ring of one queue pair, one slot after the other; the last one of each chunk is signaled. */
  messages(operation: Operation, count: number, index: number, peer: Place, chunk: number): WorkRequestBatch {
    const batch = new WorkRequestBatch(count);
    const { bytes, slot, slots } = this.ring;
    for (let at = 0; at < count; at++) {
      const offset = index * bytes + (at % slots) * slot;
      const local = this.#region.range(offset, this.#messageBytes);
      const signaled = (at + 1) % chunk === 0;
      if (operation === 'send') batch.push({ opcode: 'SEND', wrId: at, signaled, ...local });
      else
        batch.push({
          opcode: operation === 'write' ? 'RDMA_WRITE' : 'RDMA_READ',
          wrId: at,
          signaled,
          ...local,
          remoteAddr: peer.addr + BigInt(offset),
          rkey: peer.rkey,
        });
    }
    return batch;
  }

  /** Rooms for messages: they share the ring, since nobody looks at what is in them. */
  rooms(count: number, index: number): WorkRequestBatch {
    const batch = new WorkRequestBatch(count);
    const { bytes, slot, slots } = this.ring;
    for (let at = 0; at < count; at++)
      batch.push({
        opcode: 'RECV',
        wrId: at,
        ...this.#region.range(index * bytes + (at % slots) * slot, slot),
      });
    return batch;
  }

  /** One note, or room for one. */
  note(opcode: 'SEND' | 'RECV', signaled = true): WorkRequestBatch {
    if (opcode === 'RECV')
      return new WorkRequestBatch(1).push({
        opcode,
        ...this.#region.range(this.#notes + NOTE_BYTES, NOTE_BYTES),
      });
    return new WorkRequestBatch(1).push({ opcode, signaled, ...this.#region.range(this.#notes, NOTE_BYTES) });
  }

  /** A message and the note that tells of it, in one batch. */
  noted(operation: Operation, index: number, peer: Place, signaled: boolean): WorkRequestBatch {
    const message = this.messages(operation, 1, index, peer, 2);
    const batch = new WorkRequestBatch(2);
    batch.bytes.set(message.bytes);
    batch.bytes.set(this.note('SEND', signaled).bytes, message.bytes.length);
    batch.length = 2;
    return batch;
  }

  close(): Promise<void> {
    return this.#region.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
