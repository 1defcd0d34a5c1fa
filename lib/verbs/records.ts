/**
 * Where the fields of work requests and completions lie in a batch's buffer. native/bindings/verbs_records.h has the same. Values are in
 * the machine's byte order, which is little-endian on every machine that this package runs on.
 */

/** Of a work request, bytes. */
export const WORK_REQUEST_BYTES = 40;
/** Of a completion, bytes. */
export const COMPLETION_BYTES = 16;

/** In units of 8 bytes from the beginning of a work request. */
export const WORK_REQUEST_U64 = { wrId: 0, addr: 1, remoteAddr: 2 } as const;
/** In units of 4 bytes. The opcode is the lowest byte of `kind`, and the flags are the next one. */
export const WORK_REQUEST_U32 = { length: 6, lkey: 7, rkey: 8, kind: 9 } as const;
/** Flag of a work request's `kind`: it has a completion also when it succeeds (IBV_SEND_SIGNALED). */
export const SIGNALED = 1 << 8;

/** In units of 8 bytes from the beginning of a completion. */
export const COMPLETION_U64 = { wrId: 0 } as const;
/** In units of 4 bytes. The opcode is the lowest byte of `kind`, and the status is the next one. */
export const COMPLETION_U32 = { byteLen: 2, kind: 3 } as const;

/** By number, as in native/fabric/types.h. */
export const OPCODES = ['SEND', 'RDMA_WRITE', 'RDMA_READ', 'RECV'] as const;
export const STATUSES = ['SUCCESS', 'WR_FLUSH_ERR', 'GENERAL_ERR'] as const;

/** What a work request does. */
export type Opcode = (typeof OPCODES)[number];
/**
 * How a work request ended. `WR_FLUSH_ERR`: the queue pair ended before it was carried out. `GENERAL_ERR`: it is the one that failed; the
 * queue pair's `closed` says why.
 */
export type CompletionStatus = (typeof STATUSES)[number];
