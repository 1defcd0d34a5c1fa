import { integer } from './checks.ts';
import {
  COMPLETION_BYTES,
  type CompletionStatus,
  OPCODES,
  type Opcode,
  STATUSES,
  COMPLETION_U32 as U32,
  COMPLETION_U64 as U64,
} from './records.ts';
import type { Completion } from './work-request.ts';

const U64S = COMPLETION_BYTES / 8;
const U32S = COMPLETION_BYTES / 4;
const MOST = 1 << 20;

/**
 * Completions in a buffer, filled with one call into the addon. Who asks for the next batch gets the same object with other completions:
 * copy what is to be kept. `for (const completion of batch)` makes an object of each; the methods with an index make none.
 */
export class CompletionBatch implements Iterable<Completion> {
  /** Completions that it has room for. */
  readonly capacity: number;
  readonly u64: BigUint64Array;
  readonly u32: Uint32Array;
  readonly bytes: Uint8Array;
  #length = 0;

  /**
   * `capacity`: 1 to 1,048,576.
   * @throws MigrationError INVALID_ARGUMENT
   */
  constructor(capacity = 256) {
    this.capacity = integer(capacity, 1, MOST, 'capacity');
    const buffer = new ArrayBuffer(capacity * COMPLETION_BYTES);
    this.u64 = new BigUint64Array(buffer);
    this.u32 = new Uint32Array(buffer);
    this.bytes = new Uint8Array(buffer);
  }

  /** Completions that are in it. */
  get length(): number {
    return this.#length;
  }

  /** @throws MigrationError INVALID_ARGUMENT: more than `capacity` */
  set length(length: number) {
    this.#length = integer(length, 0, this.capacity, 'length');
  }

  /** The id that the work request was posted with. `index`: 0 to `length` - 1, not checked here, nor in the methods below but `get`. */
  wrId(index: number): bigint {
    return this.u64[index * U64S + U64.wrId] as bigint;
  }

  /** Makes no bigint. Exact up to 2^53. */
  wrIdNumber(index: number): number {
    const at = index * U32S;
    return (this.u32[at] as number) + (this.u32[at + 1] as number) * 2 ** 32;
  }

  /** What completed. */
  opcode(index: number): Opcode {
    return OPCODES[this.#kind(index) & 0xff] as Opcode;
  }

  /** ibv_wc_status, without its prefix. */
  status(index: number): CompletionStatus {
    return STATUSES[(this.#kind(index) >> 8) & 0xff] as CompletionStatus;
  }

  /** The status is SUCCESS; makes no string. */
  isSuccess(index: number): boolean {
    return ((this.#kind(index) >> 8) & 0xff) === 0;
  }

  /** Bytes received, of a RECV and an RDMA_READ; else 0. */
  byteLen(index: number): number {
    return this.u32[index * U32S + U32.byteLen] as number;
  }

  /** The completion as an object. @throws MigrationError INVALID_ARGUMENT: `index` is not below `length` */
  get(index: number): Completion {
    integer(index, 0, this.#length - 1, 'index');
    return {
      wrId: this.wrId(index),
      opcode: this.opcode(index),
      status: this.status(index),
      byteLen: this.byteLen(index),
    };
  }

  /** Every completion as an object, in order. */
  *[Symbol.iterator](): Generator<Completion, void, undefined> {
    for (let index = 0; index < this.#length; index += 1) yield this.get(index);
  }

  #kind(index: number): number {
    return this.u32[index * U32S + U32.kind] as number;
  }
}
