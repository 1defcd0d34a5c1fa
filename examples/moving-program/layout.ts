/** The memory of the program: one block, in which all that it knows lies, so that it moves with it. */
import type { Domain } from 'rdma-migrate/verbs';

export const PAGE = 4096;

/** What one end does, as perftest's options have it. Both ends are told the same. */
export interface Traffic {
  readonly verb: 'send' | 'write' | 'read';
  /** Bytes of a message. */
  readonly size: number;
  /** Messages under way on each queue pair. */
  readonly depth: number;
  readonly queuePairs: number;
  /** Who sends, writes or reads: the program that may move, the partner that stays, or both. */
  readonly from: 'program' | 'partner' | 'both';
  /** Of each queue pair; 0: until `seconds` are over. */
  readonly iterations: number;
  readonly seconds: number;
}

/** Besides the messages: credits and the last word. */
const SPARE_RECVS = 6;
/** Of a message that carries no data. */
export const WORD_BYTES = 64;
/** Numbers of one queue pair. */
const NUMBERS = 16;

/** Where the numbers of a queue pair lie, in units of 8 bytes. */
export const AT = {
  posted: 0, // messages
  done: 1, // of those
  received: 2,
  granted: 3, // that the peer says it has taken
  told: 4, // of `received`
  peerAddr: 5, // of its target, in two parts: a double is exact up to 2^53
  peerKey: 6,
  isSaid: 7, // the last word
  isHeard: 8,
  faults: 9,
  credits: 10, // under way
  mayEnd: 11, // milliseconds since 1970
} as const;

/** Offsets of the parts, bytes. */
export class Layout {
  readonly traffic: Traffic;
  readonly recvs: number;
  readonly recvBytes: number;
  readonly out: number;
  readonly inbox: number;
  readonly target: number;
  readonly bytes: number;

  constructor(traffic: Traffic) {
    const { verb, size, depth, queuePairs } = traffic;
    const pages = (bytes: number): number => Math.ceil(bytes / PAGE) * PAGE;
    this.traffic = traffic;
    this.recvs = depth + SPARE_RECVS;
    this.recvBytes = verb === 'send' ? Math.max(size, WORD_BYTES) : WORD_BYTES;
    this.out = pages(queuePairs * NUMBERS * 8);
    this.inbox = this.out + pages(queuePairs * (depth * size + 2 * WORD_BYTES));
    this.target = this.inbox + pages(queuePairs * this.recvs * this.recvBytes);
    this.bytes = this.target + pages(verb === 'send' ? 1 : queuePairs * depth * size);
  }

  numbers(index: number): number {
    return index * NUMBERS;
  }
  /** Of a message that leaves, or of what a READ fills. */
  outAt(index: number, message: number): number {
    const { depth, size } = this.traffic;
    return this.out + (index * depth + (message % depth)) * size;
  }
  /** Of the words: a credit, and the last one. */
  wordAt(index: number, which: 0 | 1): number {
    const { depth, size, queuePairs } = this.traffic;
    return this.out + queuePairs * depth * size + (2 * index + which) * WORD_BYTES;
  }
  recvAt(index: number, slot: number): number {
    return this.inbox + (index * this.recvs + slot) * this.recvBytes;
  }
  /** Of what the peer writes or reads. */
  targetAt(index: number, message: number): number {
    const { depth, size } = this.traffic;
    return this.target + (index * depth + (message % depth)) * size;
  }
}

/** New memory, zero, whose first byte is the first of a page: as RAM of a VM has to be. */
export async function pageAligned(domain: Domain, bytes: number): Promise<Uint8Array> {
  const memory = new Uint8Array(new SharedArrayBuffer(bytes + PAGE));
  const begin = (PAGE - Number((await addressOf(domain, memory)) % BigInt(PAGE))) % PAGE;
  return memory.subarray(begin, begin + bytes);
}

/** Where memory is in this process. A region that has moved here has another address in the eyes of its peers. */
export async function addressOf(domain: Domain, memory: Uint8Array): Promise<bigint> {
  await using region = await domain.registerMemory(memory);
  return region.addr;
}
