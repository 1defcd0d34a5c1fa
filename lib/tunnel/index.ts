/** `rdma-migrate/tunnel`: streams of bytes over the fabric, between local sockets of two hosts (docs/tunnel.md). */
export { ERROR_CODES, type ErrorCode, type ErrorDetails, MigrationError, type Phase } from '../errors.ts';
export type { ChosenProvider, ProviderChoice, ProviderName } from '../transport/provider.ts';
export type {
  Authorize,
  Pem,
  PskCredentials,
  SourceTlsOptions,
  TlsOptions,
  TlsPeer,
  X509Credentials,
} from '../trust/credentials.ts';
export { TunnelDestination } from './destination.ts';
export type { TunnelEnd } from './end.ts';
export type {
  TunnelDestinationOptions,
  TunnelEvents,
  TunnelOptions,
  TunnelSourceOptions,
  TunnelStreamEnd,
  TunnelStreamFacts,
  TunnelTls,
} from './options.ts';
export { TunnelSource } from './source.ts';
