/** What the addon exports for `rdma-migrate/verbs` (native/bindings/verbs_*), declared. Nothing is decided here. */
import type { NativeConnectionRequest, NativeLinkChange, NativeResume } from './transport.ts';

export interface NativeVerbsRegion {
  readonly addr: bigint;
  readonly lkey: number;
  readonly rkey: number;
  /** Resolves when neither provider nor peers touch the bytes any more. Idempotent. */
  close(): Promise<void>;
}

export interface NativeQueuePairOptions {
  readonly maxSendWr: number;
  readonly maxRecvWr: number;
  readonly crc: boolean;
  readonly connectTimeoutMs: number;
  readonly stallTimeoutMs: number;
  readonly resume?: NativeResume;
}

export interface NativeQueuePairInfo {
  readonly provider: string;
  readonly localAddress: string;
  readonly peerAddress: string;
  readonly detail: string;
  readonly crc: boolean;
  readonly resumable: boolean;
}

export interface NativeQueuePairCounters {
  readonly bytesSent: bigint;
  readonly bytesReceived: bigint;
  readonly writeBytesPlaced: bigint;
  readonly payloadReceived: bigint;
  readonly resumes: number;
  readonly payloadResent: bigint;
}

export interface NativeVerbsQueuePair {
  readonly state: string;
  readonly info: NativeQueuePairInfo;
  counters(): NativeQueuePairCounters;
  /** The end's reason, or null for an orderly one. Never rejects. */
  readonly closed: Promise<Error | null>;
  /** Resolves with the peer's private data. */
  connect(endpoint: { host: string; port: number }, privateData: Uint8Array): Promise<Uint8Array>;
  /** Takes the request over, whatever comes of it. */
  accept(
    request: NativeConnectionRequest,
    privateData: Uint8Array,
    maySendAtOnce: boolean,
  ): Promise<Uint8Array>;
  /** Records as in lib/verbs/records.ts. How many were posted. */
  postSend(records: Uint8Array, first: number, count: number): number;
  postRecv(records: Uint8Array, first: number, count: number): number;
  /** How many completions were written to `records`; -1: none, and none will come. `arm`: with none, the next one calls `onWake`. */
  poll(records: Uint8Array, arm: boolean): number;
  /** The next change, in order; null when it has ended. */
  linkChange(): Promise<NativeLinkChange | null>;
  /** Moving: as in native/fabric/fabric.h. Resolves when the peer has answered. */
  prepareMove(plan: NativeMovePlan): Promise<void>;
  announcement(): Uint8Array;
  stopForMove(drainMs: number): Promise<void>;
  freeze(): Uint8Array;
  abortMove(): Promise<void>;
  commitMove(): void;
  expect(announcement: Uint8Array): void;
  thaw(image: Uint8Array): void;
  takeOver(longestPauseMs: number): void;
  disconnect(): void;
  close(): Promise<void>;
}

export interface NativeMovePlan {
  /** 16 bytes. */
  readonly id: Uint8Array;
  readonly to: readonly { host: string; port: number }[];
  readonly longestPauseMs: number;
  readonly ahead: boolean;
}

export interface NativeVerbsDomain {
  readonly pinsMemory: boolean;
  /** At once on the software RNIC. */
  registerMemory(memory: Uint8Array, access: number): NativeVerbsRegion | Promise<NativeVerbsRegion>;
  /** The software RNIC's. */
  registerAs(memory: Uint8Array, was: { key: number; wireBase: bigint; access: number }): NativeVerbsRegion;
  /** `onWake` is also called when the queue pair has ended. */
  createQueuePair(options: NativeQueuePairOptions, onWake: () => void): NativeVerbsQueuePair;
  /** The device is the one that the request came over. Until it has settled nobody can answer the request. */
  bind(request: NativeConnectionRequest): Promise<void>;
  revokeRemoteAccess(): Promise<void>;
  /** Regions and queue pairs that are open keep what they need. */
  close(): void;
}

export interface NativeVerbs {
  openVerbsDomain(provider: 'iwarp' | 'verbs'): NativeVerbsDomain;
}
