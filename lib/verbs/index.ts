/**
 * RDMA for programs that want it as such, in the terms of libibverbs: protection domains, memory regions, queue pairs, completions, over an RDMA
 * device or the software RNIC that comes with this package. See docs/verbs.md.
 */
export { ERROR_CODES, type ErrorCode, type ErrorDetails, MigrationError, type Phase } from '../errors.ts';
export type { ChosenProvider, ProviderChoice, ProviderName } from '../transport/provider.ts';
export { CompletionBatch } from './completion-batch.ts';
export type { ConnectionRequest } from './connection-request.ts';
export { type Domain, openDomain } from './domain.ts';
export { type Listener, listen, type OnRequest } from './listener.ts';
export type { MemoryRegion } from './memory-region.ts';
export type { Move } from './move.ts';
export type * from './options.ts';
export type {
  LinkChange,
  QueuePair,
  QueuePairCounters,
  QueuePairInfo,
  QueuePairState,
} from './queue-pair.ts';
export {
  COMPLETION_BYTES,
  COMPLETION_U32,
  COMPLETION_U64,
  type CompletionStatus,
  type Opcode,
  SIGNALED,
  WORK_REQUEST_BYTES,
  WORK_REQUEST_U32,
  WORK_REQUEST_U64,
} from './records.ts';
export type { Registrable } from './registrable.ts';
export { type ExpectedMove, expectMove, type Thawed, thaw } from './thaw.ts';
export type * from './work-request.ts';
export { WorkRequestBatch } from './work-request-batch.ts';
