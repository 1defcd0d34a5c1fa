/** `rdma-migrate/tunnel`: streams of bytes over the fabric, between local sockets of two hosts (docs/tunnel.md). */
export { TunnelDestination } from './destination.ts';
export type {
  TunnelDestinationOptions,
  TunnelEvents,
  TunnelOptions,
  TunnelSourceOptions,
  TunnelStreamEnd,
  TunnelStreamFacts,
} from './options.ts';
export { TunnelSource } from './source.ts';
