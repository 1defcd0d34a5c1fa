/** What the addon exports of native/tunnel, declared. Nothing is decided here. */
import type { NativeConnection } from './transport.ts';

/** Registered memory that the peer of a stream writes into. */
export interface NativeRing {
  readonly address: bigint;
  readonly rkey: number;
  readonly bytes: number;
}

export interface NativeStreamStart extends NativeRing {
  /** Descriptors, which are copied. Both may be of one socket. */
  readonly in: number;
  readonly out: number;
  /** They are 0 and 1: these become /dev/null. */
  readonly stdio: boolean;
  /** The peer, and the wire, may be silent so long. */
  readonly silenceMs: number;
  /** And this end at most so long. */
  readonly aliveMs: number;
}

export interface NativeTunnelStream {
  /** This end's, for the peer. */
  readonly ring: NativeRing;
  readonly bytesSent: bigint;
  readonly bytesReceived: bigint;
  /**
   * Once, with the peer's ring. Resolves when both directions have ended: null, or why the stream was reset (PEER_ERROR, CONNECTION_LOST, TIMEOUT,
   * PROTOCOL_ERROR, CANCELLED). Rejects when it has not begun (PROTOCOL_ERROR: no ring; RESOURCE_LIMIT).
   */
  start(options: NativeStreamStart): Promise<Error | null>;
  /** Ends it; CANCELLED with this message. */
  reset(reason: string): void;
  /** Idempotent; before the connection's. */
  close(): Promise<void>;
}

export interface NativeTunnel {
  /** Over a connection that is established, of which no message is awaited. `ringBytes`: of each direction. */
  createTunnelStream(connection: NativeConnection, ringBytes: number): Promise<NativeTunnelStream>;
}
