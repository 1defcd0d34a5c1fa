/** `rdma-migrate/qemu`: running guests of stock QEMUs, from one into another. docs/qemu-live.md */
export type { StatusWord } from '../protocol/status.ts';
export { type ConnectedQemu, connectQemu } from './connect.ts';
export { type IncomingOptions, IncomingVm } from './incoming.ts';
export { LaunchedQemu } from './launch.ts';
export { type OutgoingOptions, OutgoingVm } from './outgoing.ts';
export {
  defaultStateFolder,
  type Judgement,
  type MigrationRecord,
  makeStateFolder,
  Records,
} from './records.ts';
export { askStatus, StatusService, settle } from './status.ts';
export { TRACKER_WISHES, type TrackerWish } from './tracker.ts';
export { joinedQemu, type WaitingQemu } from './waiting.ts';
