import type { MigrationError } from '../errors.ts';
import type { ProviderChoice } from '../transport/provider.ts';
import type { SourceTlsOptions, TlsOptions } from '../trust/credentials.ts';

/** Of both ends of a tunnel. */
export interface TunnelOptions {
  /** Default `auto`. */
  readonly provider?: ProviderChoice;
  /** CRC32C of what travels; default: between two software RNICs without TLS. */
  readonly crc?: boolean;
  /** To reach the other end, and for a stream's beginning. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /** The longest silence of the other end, and of the wire. Default 60,000. */
  readonly responseTimeoutMs?: number;
  /** Ends when the first stream, and all that were opened meanwhile, have ended; fails if one did. Default false. */
  readonly once?: boolean;
  /** Bytes of a stream that may be under way in each direction, from 64 KiB to 64 MiB, a multiple of 4096. Default 4 MiB. Twice as many are registered. */
  readonly ringBytes?: number;
}

export interface TunnelSourceOptions extends TunnelOptions {
  /** Protects every stream, with our software RNIC at both ends: INVALID_ARGUMENT with a device. */
  readonly tls?: SourceTlsOptions;
}

export interface TunnelDestinationOptions extends TunnelOptions {
  readonly tls?: TlsOptions;
  /** Addresses and networks that may connect. Default: all. */
  readonly allow?: readonly string[];
  /** Of one address, that are looked at. Default 100. */
  readonly connectionsPerSecond?: number;
}

/** What a stream is protected by. Its records are AES-256-GCM, whatever the handshake's cipher. */
export interface TunnelTls {
  /** Of the handshake: `TLS_AES_256_GCM_SHA384`. */
  readonly cipher: string;
  /** Who the other end has proved to be: `CN=host-b,O=Example`, or `the key qemu`. */
  readonly peer: string;
}

/** A stream that has begun. */
export interface TunnelStreamFacts {
  /** Counted from 1 on. */
  readonly stream: number;
  /** The other end of the tunnel: `192.0.2.7:4444`. */
  readonly peer: string;
  /** Absent: its bytes cross the network in the clear. */
  readonly tls?: TunnelTls;
}

export interface TunnelStreamEnd extends TunnelStreamFacts {
  /** Bytes. */
  readonly sent: bigint;
  readonly received: bigint;
  /** Why it was reset; absent when both directions have ended in order. */
  readonly error?: MigrationError;
}

/** What is told of a tunnel. What these throw is an uncaught exception of the process. */
export interface TunnelEvents {
  /** A stream begins. */
  opened?(stream: TunnelStreamFacts): void;
  /** A stream has ended, one way or the other. */
  closed?(stream: TunnelStreamEnd): void;
  /** A stream that did not begin; `who`: the other end's address, or `local`. */
  refused?(who: string, error: MigrationError): void;
}
