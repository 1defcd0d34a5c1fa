/** Work requests as objects. A batch of many is cheaper: see work-request-batch.ts and docs/verbs.md. */
import type { CompletionStatus, Opcode } from './records.ts';

/** A piece of a memory region, as `region.range()` gives it. */
export interface LocalBuffer {
  /** Address of the first byte. */
  readonly addr: bigint;
  /** Bytes, 0 to 2^32 - 1. */
  readonly length: number;
  /** Of the region that it lies in. */
  readonly lkey: number;
}

/** Of every work request. */
export interface WorkRequestFields extends LocalBuffer {
  /** Comes back in the completion. 0 to 2^64 - 1; default 0. */
  readonly wrId?: bigint | number;
}

/** Of every work request of the send queue. */
export interface SendRequestFields extends WorkRequestFields {
  /** Default true. An unsignaled request has a completion only if it fails; a later signaled one frees its place in the queue. */
  readonly signaled?: boolean;
}

/** A message for the oldest RECV of the peer. */
export interface SendRequest extends SendRequestFields {
  readonly opcode: 'SEND';
}

/** Bytes into the peer's memory (RDMA_WRITE), or out of it into ours (RDMA_READ). */
export interface RdmaRequest extends SendRequestFields {
  readonly opcode: 'RDMA_WRITE' | 'RDMA_READ';
  /** In the peer's region, as the peer counts. */
  readonly remoteAddr: bigint;
  /** Of the peer's region. */
  readonly rkey: number;
}

/** For {@link QueuePair.postSend}. */
export type SendWorkRequest = SendRequest | RdmaRequest;

/** Room for one message, for {@link QueuePair.postRecv}. The region needs `localWrite`. */
export interface RecvWorkRequest extends WorkRequestFields {
  readonly opcode?: 'RECV';
}

/** What is posted to a queue pair: `opcode` says to which of its queues, and which members there are. */
export type WorkRequest = SendWorkRequest | (RecvWorkRequest & { readonly opcode: 'RECV' });

/** A completion as an object. */
export interface Completion {
  readonly wrId: bigint;
  readonly opcode: Opcode;
  readonly status: CompletionStatus;
  /** Bytes received, of a RECV and an RDMA_READ; else 0. */
  readonly byteLen: number;
}
