/** rdma-migrate: moves a virtual machine's RAM and device state to another host over RDMA. See README.md and docs/. */
export {
  type Check,
  type CheckDetail,
  type CheckStatus,
  type DoctorOptions,
  type DoctorReport,
  runDoctor,
} from './doctor/index.ts';
export { ERROR_CODES, type ErrorCode, type ErrorDetails, MigrationError, type Phase } from './errors.ts';
export * from './image/index.ts';
export { MigrationDestination } from './migration/destination/destination.ts';
export {
  type DrainPolicy,
  type IncomingVm,
  MigrationService,
  type MigrationServiceEvents,
  type OpenServiceTarget,
  type ServiceTarget,
} from './migration/destination/service.ts';
export type {
  BytesEvent,
  DowntimeEvent,
  EndEvent,
  LinkEvent,
  LinkTerms,
  MigrationEvent,
  NoticeCode,
  NoticeDetails,
  NoticeEvent,
  PhaseEvent,
  PinEvent,
  RoundEvent,
  ThrottleEvent,
  ZeroEvent,
} from './migration/events.ts';
export type { Verdict } from './migration/live/convergence.ts';
export type { DowntimePart, DowntimeParts } from './migration/live/downtime.ts';
export type { MigrationLogger, MigrationRole } from './migration/logger.ts';
export type { Migration, MigrationEvents } from './migration/migration.ts';
export type {
  DestinationOptions,
  LiveOptions,
  MigrationOptions,
  ResumeOptions,
  ServiceOptions,
  SourceOptions,
} from './migration/options.ts';
export type { PinOptions } from './migration/pins/pinning.ts';
export type {
  LiveStatistics,
  MigrationProgress,
  MigrationStatus,
  RamStatistics,
  RoundReport,
} from './migration/progress.ts';
export type { TlsFacts } from './migration/protection.ts';
export type { ControlCosts, MigrationFacts, MigrationResult } from './migration/result.ts';
export { MigrationSource } from './migration/source/source.ts';
export { type DeviceState, openDeviceState, sealDeviceState, streamHeader } from './protocol/framing.ts';
export type { DeviceName } from './protocol/section-scan.ts';
export type { DeviceStateResult, VmDescription } from './protocol/tail.ts';
export { formatRdmaUri, parseRdmaUri, type RdmaAddress } from './protocol/uri.ts';
export {
  QmpClient,
  type QmpConnectOptions,
  type QmpEvent,
  type QmpGreeting,
  type WaitOptions,
} from './qmp/client.ts';
export type { Coverage, GapCause } from './ram/coverage.ts';
export { type HintKind, MigrationHints } from './ram/hints.ts';
export { type Mapping, mapCaller, mapFile, mapMemfd } from './ram/mapping.ts';
export { RAM_CELL, type RamMap, type RamMapLayout } from './ram/ram-map.ts';
export type { Span } from './ram/spans.ts';
export type { DirtyTracker, PageBitmap, PageDigests, TrackerKind } from './ram/tracker.ts';
export * from './ram/trackers/index.ts';
export type {
  Arrival,
  DestinationTarget,
  Guest,
  RamBlock,
  RamBlockLayout,
  RamSection,
  ReceivedVm,
  SourceVm,
  VmLayout,
} from './ram/vm.ts';
export type { ProviderChoice, ProviderName } from './transport/provider.ts';
export type {
  Authorize,
  Pem,
  PskCredentials,
  SourceTlsOptions,
  TlsOptions,
  TlsPeer,
  X509Credentials,
} from './trust/credentials.ts';
