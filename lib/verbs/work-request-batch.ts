import { identifier, integer, u32, u64, wrong } from './checks.ts';
import {
  OPCODES,
  SIGNALED,
  WORK_REQUEST_U32 as U32,
  WORK_REQUEST_U64 as U64,
  WORK_REQUEST_BYTES,
} from './records.ts';
import type { WorkRequest } from './work-request.ts';

const U64S = WORK_REQUEST_BYTES / 8;
const U32S = WORK_REQUEST_BYTES / 4;
const MOST = 65_536;

const SEND = OPCODES.indexOf('SEND');
const RDMA_WRITE = OPCODES.indexOf('RDMA_WRITE');
const RDMA_READ = OPCODES.indexOf('RDMA_READ');
const RECV = OPCODES.indexOf('RECV');

/**
 * Work requests in a buffer, posted with one call into the addon. Made once and used again: `clear()`, fill, post. Values are checked when
 * they are put in, but for what is written to `u64` and `u32` by hand: whether a key and a range are right shows when they are posted.
 *
 * Over a SharedArrayBuffer, another thread may prepare what this one posts; the caller sees to it that they take turns.
 */
export class WorkRequestBatch {
  /** Requests that it has room for. */
  readonly capacity: number;
  readonly buffer: ArrayBufferLike;
  /** The records, {@link WORK_REQUEST_BYTES} each; where the fields lie is in docs/verbs.md. */
  readonly u64: BigUint64Array;
  readonly u32: Uint32Array;
  readonly bytes: Uint8Array;
  #length = 0;

  /**
   * `room`: a number of requests, 1 to 65,536, or a buffer, of which as many bytes are used as whole requests fit into.
   * @throws MigrationError INVALID_ARGUMENT
   */
  constructor(room: number | ArrayBufferLike) {
    const given = typeof room === 'number' ? integer(room, 1, MOST, 'room') : wholeRecords(room);
    this.capacity = given;
    this.buffer = typeof room === 'number' ? new ArrayBuffer(given * WORK_REQUEST_BYTES) : room;
    this.u64 = new BigUint64Array(this.buffer, 0, given * U64S);
    this.u32 = new Uint32Array(this.buffer, 0, given * U32S);
    this.bytes = new Uint8Array(this.buffer, 0, given * WORK_REQUEST_BYTES);
  }

  /** Requests that are in it. Set it after writing records by hand, or to leave some away. */
  get length(): number {
    return this.#length;
  }

  /** @throws MigrationError INVALID_ARGUMENT: more than `capacity` */
  set length(length: number) {
    this.#length = integer(length, 0, this.capacity, 'length');
  }

  /** Leaves it empty; the buffer stays. */
  clear(): this {
    this.#length = 0;
    return this;
  }

  /** @throws MigrationError INVALID_ARGUMENT */
  push(request: WorkRequest): this {
    const { wrId = 0n, addr, length, lkey } = request;
    if (request.opcode === 'RECV') return this.pushRecv(wrId, addr, length, lkey);
    const { signaled = true } = request;
    switch (request.opcode) {
      case 'SEND':
        return this.pushSend(wrId, addr, length, lkey, signaled);
      case 'RDMA_WRITE':
        return this.pushWrite(wrId, addr, length, lkey, request.remoteAddr, request.rkey, signaled);
      case 'RDMA_READ':
        return this.pushRead(wrId, addr, length, lkey, request.remoteAddr, request.rkey, signaled);
      default:
        throw wrong(OPCODES.join(', '), 'opcode', (request satisfies never as WorkRequest).opcode);
    }
  }

  /** `length` in bytes, as in the methods below. @throws MigrationError INVALID_ARGUMENT: a value, or no room */
  pushSend(wrId: bigint | number, addr: bigint, length: number, lkey: number, signaled = true): this {
    return this.#put(SEND | (signaled ? SIGNALED : 0), wrId, addr, length, lkey, 0n, 0);
  }

  /** @throws MigrationError INVALID_ARGUMENT: a value, or no room */
  pushRecv(wrId: bigint | number, addr: bigint, length: number, lkey: number): this {
    return this.#put(RECV | SIGNALED, wrId, addr, length, lkey, 0n, 0);
  }

  /** @throws MigrationError INVALID_ARGUMENT: a value, or no room */
  pushWrite(
    wrId: bigint | number,
    addr: bigint,
    length: number,
    lkey: number,
    remoteAddr: bigint,
    rkey: number,
    signaled = true,
  ): this {
    return this.#put(RDMA_WRITE | (signaled ? SIGNALED : 0), wrId, addr, length, lkey, remoteAddr, rkey);
  }

  /** @throws MigrationError INVALID_ARGUMENT: a value, or no room */
  pushRead(
    wrId: bigint | number,
    addr: bigint,
    length: number,
    lkey: number,
    remoteAddr: bigint,
    rkey: number,
    signaled = true,
  ): this {
    return this.#put(RDMA_READ | (signaled ? SIGNALED : 0), wrId, addr, length, lkey, remoteAddr, rkey);
  }

  #put(
    kind: number,
    wrId: bigint | number,
    addr: bigint,
    length: number,
    lkey: number,
    remoteAddr: bigint,
    rkey: number,
  ): this {
    if (this.#length === this.capacity)
      throw wrong(`at most ${this.capacity} requests`, 'a batch', this.#length + 1);
    const at64 = this.#length * U64S;
    const at32 = this.#length * U32S;
    this.u64[at64 + U64.wrId] = identifier(wrId, 'wrId');
    this.u64[at64 + U64.addr] = u64(addr, 'addr');
    this.u64[at64 + U64.remoteAddr] = u64(remoteAddr, 'remoteAddr');
    this.u32[at32 + U32.length] = u32(length, 'length');
    this.u32[at32 + U32.lkey] = u32(lkey, 'lkey');
    this.u32[at32 + U32.rkey] = u32(rkey, 'rkey');
    this.u32[at32 + U32.kind] = kind;
    this.#length += 1;
    return this;
  }
}

function wholeRecords(room: ArrayBufferLike): number {
  if (!(room instanceof ArrayBuffer) && !(room instanceof SharedArrayBuffer))
    throw wrong('a number of requests or a buffer', 'room', room);
  const whole = Math.floor(room.byteLength / WORK_REQUEST_BYTES);
  if (whole >= 1) return Math.min(whole, MOST);
  throw wrong(`a buffer of at least ${WORK_REQUEST_BYTES} bytes`, 'room', room.byteLength);
}
