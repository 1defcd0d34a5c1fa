/**
 * What the addon exports of native/fabric and native/engine, declared. Nothing is decided here. Errors are `Error` objects with a
 * `code` of lib/errors.ts.
 */
import type { NativePageDigests } from './dirty.ts';
import type { NativeBitmap, NativeCoverage, NativeMapping, NativeRuns } from './memory.ts';

export interface NativeConnectionOptions {
  /** Offer or demand MPA CRC32C (software iWARP). */
  readonly crc: boolean;
  readonly connectTimeoutMs: number;
  /** Longest time without progress while work is outstanding. */
  readonly stallTimeoutMs: number;
  /** Of a listener: connections of one address, in the long run; four seconds' worth, and 32 in any case, may come at once. Default: any number. */
  readonly connectionsPerSecond?: number;
  /**
   * Until {@link NativeConnection.protect}, nothing more is taken after each message of the peer's before
   * {@link NativeConnection.resumeReceive}: what follows may be records. The peer's end is noticed where nothing lies before it. Until then a
   * peer that uses a key is refused, too. Not of rails; a device takes no notice. Default false.
   */
  readonly holdUntilProtected?: boolean;
  readonly resume?: NativeResume;
}

/**
 * Software RNIC: what it makes outlives its TCP streams, if the peer has it too: see `resume_window_ms` in native/fabric/fabric.h. Its info tells
 * (`resumable`). Milliseconds; `windowMs` at least 1.
 */
export interface NativeResume {
  readonly windowMs: number;
  readonly retryMs: number;
  /** The users tell each other, by private data of their own. Default false: the provider does. */
  readonly asked?: boolean;
}

/** Traffic secrets, 48 bytes each: one end's `send` is the other's `receive`. For one queue pair. They are copied; their owner wipes them. */
export interface NativeSecrets {
  readonly send: Uint8Array;
  readonly receive: Uint8Array;
}

export interface NativeConnectionInfo {
  readonly provider: 'iwarp' | 'verbs';
  readonly localAddress: string;
  readonly peerAddress: string;
  readonly detail: string;
  readonly crc: boolean;
  /** Agreed on: its channels outlive their carriers. */
  readonly resumable: boolean;
  /** The provider holds physical pages: registered ranges must not be punched out. */
  readonly pinsMemory: boolean;
}

/** ibv_access_flags. */
export const ACCESS = { localWrite: 1, remoteWrite: 2, remoteRead: 4 } as const;

/** Packed: lkey and rkey of each span, in the order of the spans. */
export type NativeKeys = Uint32Array;

export interface NativeWriteJob {
  readonly mapping: NativeMapping;
  readonly bitmap: NativeBitmap;
  /** Spans of the mapping, multiples of its page size; their pages' bits are taken from the bitmap as they are sent. */
  readonly spans: NativeRuns;
  /** Of each span, or one pair that is good for all. */
  readonly keys: NativeKeys;
  /** The peer's address of the mapping's first byte. */
  readonly remoteAddress: bigint;
  /**
   * Of the mapping: where it is noted what is sent. The pages are copied on their way then. Rejects with OUT_OF_MEMORY, REGISTER_FAILED or
   * LOCKED_MEMORY_LIMIT when there is no room for the registered copies: 8 MiB a rail, at least 16 MiB.
   */
  readonly digests?: NativePageDigests;
}

export interface NativeWriteResult {
  readonly pages: bigint;
  readonly bytes: bigint;
  readonly writes: bigint;
}

/** Indexes into {@link NativeConnection.counters}. */
export const COUNTER = {
  bytesCompleted: 0,
  pagesPosted: 1,
  writesPosted: 2,
  stalls: 3,
  /** Time in which a WRITE was posted and not complete, and time in which none was because of the bandwidth limit. */
  wireNanoseconds: 4,
  heldNanoseconds: 5,
} as const;

/** The provider's counters, in bytes, over all rails. */
export interface NativeConnectionStats {
  readonly bytesSent: bigint;
  readonly bytesReceived: bigint;
  readonly writeBytesPlaced: bigint;
  /** Of messages of this connection, without headers; of a device's WRITEs nobody is told. */
  readonly payloadReceived: bigint;
  /** How often a channel's carrier was replaced, and bytes of messages that were begun again then. */
  readonly resumes: number;
  readonly payloadResent: bigint;
  /** How long something was sent and not known to have arrived, on the rail where it was longest; 0 where a WRITE's completion tells as much. */
  readonly wireMicroseconds: bigint;
}

export interface NativeEndpoint {
  readonly host: string;
  readonly port: number;
}

/** Of a resumable connection: a channel's carrier broke, and what is on it waits; or it goes on over another one. */
export interface NativeLinkChange {
  /** From 1; the first one carries the messages. */
  readonly channel: number;
  /** Why; null: it goes on. */
  readonly lost: Error | null;
}

/** One end of a migration: the queue pair of its control messages, and further ones ("rails") that carry WRITEs only. */
export interface NativeConnection {
  /** Active side. Resolves with the peer's private data. */
  connect(endpoint: NativeEndpoint, privateData: Uint8Array): Promise<Uint8Array>;
  /**
   * Passive side: takes the request over. Resolves when the connection is established. `maySendAtOnce`: the peer takes a message right
   * after the reply; one that is not known to do so (Linux' siw) is given 200 ms.
   */
  accept(request: NativeConnectionRequest, privateData: Uint8Array, maySendAtOnce: boolean): Promise<void>;
  /**
   * Active side: one more queue pair, once the first is established; resolves with the peer's private data, or rejects within
   * `connectTimeoutMs`. A rail that cannot be established rejects and ends nothing else, and one that dies before it has carried a WRITE or
   * a barrier is left out; one that dies later ends the whole connection with its reason
   * (CONNECTION_LOST where the peer closed it) and a message that names it ("channel 2 of 4"). `secrets`: all of it is protected, from the first
   * byte after the handshake on, as by {@link protect}.
   */
  connectRail(
    endpoint: NativeEndpoint,
    privateData: Uint8Array,
    connectTimeoutMs: number,
    secrets?: NativeSecrets,
  ): Promise<Uint8Array>;
  /** Passive side of {@link connectRail}: takes the request over. */
  acceptRail(
    request: NativeConnectionRequest,
    privateData: Uint8Array,
    secrets?: NativeSecrets,
  ): Promise<void>;
  /** Queue pairs that have been established, the first included. */
  readonly rails: number;
  /**
   * Resolves when every WRITE that was posted on a rail before this call has been placed at the peer. What was posted on the first queue pair
   * is placed before a later message arrives.
   */
  barrier(): Promise<void>;
  /**
   * Everything that rails have carried has been placed and nothing more comes on them: from here on the end of a rail ends nothing, also
   * of one that has died a moment ago.
   */
  releaseRails(): void;
  /** Resolves when the SEND has completed locally. Throws at once where nothing has been posted: the peer cannot get any of it. */
  send(message: Uint8Array): Promise<void>;
  /** The next message, in order; null after an orderly end; rejects when the connection broke. */
  receive(): Promise<Uint8Array | null>;
  /** The next change, in order; null when the connection has ended. */
  linkChange(): Promise<NativeLinkChange | null>;
  /**
   * The software RNIC's first queue pair, once it is established, when every {@link send} has resolved: what is sent from here on leaves in
   * records of TLS 1.3 (AES-256-GCM), and what of the peer's has not been taken must come in such. What is no good record ends the connection
   * (INTEGRITY_ERROR), and nothing of it is placed. Once. The secrets are those of {@link NativeSecrets}. Throws INVALID_ARGUMENT for other
   * lengths; rejects with INVALID_ARGUMENT (another moment; a device protects nothing), CRYPTO_UNAVAILABLE, CONNECTION_CLOSED.
   */
  protect(send: Uint8Array, receive: Uint8Array): Promise<void>;
  /**
   * Of `holdUntilProtected`: the next message may come; `forGood`: nothing is held from here on, and the peer may use its keys. Harmless where
   * nothing is held.
   */
  resumeReceive(forGood: boolean): void;
  /**
   * Registers spans of a mapping, any number in one call. At once with the software RNIC; a promise with a device, which pins. All or none. They
   * are the connection's: registered until {@link deregister} or its close, with the mapping held that long.
   */
  registerSpans(mapping: NativeMapping, spans: NativeRuns, access: number): NativeKeys | Promise<NativeKeys>;
  /**
   * By local keys; those that are not registered are passed over. On the software RNIC the peer's use of the keys is refused from the call on, on a device once it has resolved; resolves when nothing
   * touches the spans any more.
   */
  deregister(lkeys: Uint32Array): Promise<void>;
  /**
   * From here on what the peer's WRITEs place is added to the coverage, whose blocks the mappings are; before a message after it is received.
   * Once, before the peer has a key. False: this provider does not learn of it.
   */
  observePlacement(coverage: NativeCoverage, mappings: readonly NativeMapping[]): boolean;
  /**
   * Takes every remote right from every region, for good. When it has resolved no WRITE of the peer lands any more, and one that comes ends
   * the connection. SENDs go on, both ways. Harmless on a connection that has ended.
   */
  revokeRemoteAccess(): Promise<void>;
  /** Resolves when every WRITE of the job has completed locally. */
  write(job: NativeWriteJob): Promise<NativeWriteResult>;
  /** Jobs of which something is still to be posted fail at once; what was posted completes. Final: later jobs fail too. */
  cancelWrites(): void;
  /** The peer takes segments that are longer than a packet of the path, which costs less; its rails too. Once established. */
  allowLargeSegments(): void;
  /** Bytes per second over all rails; 0n: unlimited. Throws RESOURCE_LIMIT when there is no thread that could pace. */
  setMaxBandwidth(bytesPerSecond: bigint): void;
  /** Written by native threads while they run. */
  readonly counters: BigUint64Array;
  readonly info: NativeConnectionInfo;
  stats(): NativeConnectionStats;
  /** Resolves when the connection has ended, with the reason unless the end was orderly. Never rejects. */
  readonly closed: Promise<Error | null>;
  /** Sends what is queued, then ends the connection. Resolves when it has ended. */
  disconnect(): Promise<void>;
  /** Ends it now. Idempotent; resolves when neither provider nor peer touches its memory any more. */
  close(): Promise<void>;
}

/** A peer that waits for an answer: `accept`, `reject` or `drop`, once. A listener takes a bounded number of them at one time. */
export interface NativeConnectionRequest {
  readonly privateData: Uint8Array;
  readonly peerAddress: string;
  /** Refuses, and tells the peer with private data; nobody waits for it to take that. Nothing once it has been answered. */
  reject(privateData: Uint8Array): void;
  /** Rejects without a word. Idempotent. */
  drop(): void;
}

export interface NativeListener {
  /** host:port as bound. */
  readonly address: string;
  readonly port: number;
  close(): Promise<void>;
}

/** A peer that was turned away before it had made a request. */
export interface NativeStranger {
  readonly address: string;
  /** What it seemed to speak; nothing of it is the peer's own text. */
  readonly spoke: string;
  /** Strangers since the last one that was told, this one included. */
  readonly count: number;
}

export interface NativeTransport {
  listen(
    provider: 'iwarp' | 'verbs',
    endpoint: NativeEndpoint,
    options: NativeConnectionOptions,
    onRequest: (request: NativeConnectionRequest) => void,
    /** It serves nobody any more: LISTEN_FAILED. Once. */
    onFailed: (error: Error) => void,
    /** At most once a second. */
    onStranger: (stranger: NativeStranger) => void,
  ): Promise<NativeListener>;
  /** One end of a migration, not connected: `connect` or `accept`, once. RECVs are posted when it returns. */
  createConnection(provider: 'iwarp' | 'verbs', options: NativeConnectionOptions): NativeConnection;
}
