/** What can be asked for, and what holds when it is not. */
import type { ProviderChoice } from '../transport/provider.ts';
import type { CompletionBatch } from './completion-batch.ts';
import type { Registrable } from './registrable.ts';
import type { ExpectedMove } from './thaw.ts';

/** An address and a port. */
export interface Endpoint {
  /** IPv4, IPv6 without brackets, or a name. */
  readonly host: string;
  /** 0 when listening: any free port. */
  readonly port: number;
}

/** Of {@link openDomain}. */
export interface DomainOptions {
  /**
   * `iwarp`: the software RNIC over kernel TCP, on every machine. `verbs`: an RDMA device of this machine. `auto` (default): a device where
   * one leads to `peer`, or has the address `local`, or, with neither, where any is up; else the software RNIC. `domain.provider` says which
   * it is, and why.
   */
  readonly provider?: ProviderChoice;
  /** Who will be connected to. */
  readonly peer?: Endpoint;
  /** Where peers will be listened for. */
  readonly local?: Endpoint;
}

/** Rights to a memory region (ibv_access_flags). Reading it locally, for SEND and WRITE, is always allowed. */
export interface Access {
  /** RECVs and READs may fill it. */
  readonly localWrite?: boolean;
  /** A peer with the rkey may WRITE. Needs `localWrite` too, as with libibverbs. */
  readonly remoteWrite?: boolean;
  /** A peer with the rkey may READ. */
  readonly remoteRead?: boolean;
}

/** Of {@link Domain.createQueuePair}. */
export interface QueuePairOptions {
  /** Requests in the send queue, the completions that nobody has taken included: 1 to 65,536, default 256. A device may allow fewer. */
  readonly maxSendWr?: number;
  /** The same of the receive queue. */
  readonly maxRecvWr?: number;
  /** CRC32C on every FPDU of the software RNIC, if either side asks for it. Default false. Devices have checks of their own. */
  readonly crc?: boolean;
  /** From connect() or accept() to the established connection, milliseconds. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /** The longest time without progress while work is outstanding, milliseconds. Default 30,000. */
  readonly stallTimeoutMs?: number;
  /**
   * The software RNIC's queue pair outlives its connection, if the peer has this too (`info.resumable`): docs/moving-connections.md. A request then completes when the
   * peer has acknowledged it. Of `privateData` it takes 12 bytes of a request and 60 of the reply. Whoever accepts keeps a listener open, any one of the
   * process. Default: none. Devices take no notice.
   */
  readonly resume?: ResumeOptions;
}

/** How long a queue pair looks for a new connection when its own broke. Milliseconds. */
export interface ResumeOptions {
  /** At least 1. */
  readonly windowMs: number;
  /** Between two tries of the end that has called connect(). Default 100. */
  readonly retryMs?: number;
}

/** Of {@link Domain.prepareMove}. */
export interface MoveOptions {
  /** Where the peers find the new place: one to four listeners of its process, by numeric address. */
  readonly to: Endpoint | readonly Endpoint[];
  /**
   * The memory in which the regions lie, by the names that the new place asks for. Default: one block for each buffer, named `0`, `1`, ... in the
   * order in which they were first registered.
   */
  readonly blocks?: Readonly<Record<string, Registrable>>;
  /** The peers connect to the new place now, and not in the pause. Default true. */
  readonly ahead?: boolean;
  /** Gets what the new place's `expectMove()` needs. Secret. The move is prepared when it has settled and every peer has answered. */
  readonly announce?: (announcement: Uint8Array) => unknown;
  /** So long a peer waits once it has been stopped, milliseconds. Default 10,000; up to a day. */
  readonly longestPauseMs?: number;
  /** Gives the move up: CANCELLED. */
  readonly signal?: AbortSignal;
}

/** Of {@link Move.freeze}. */
export interface FreezeOptions {
  /** What is under way has that time to arrive, milliseconds. Default 1,000. What has not is sent again. */
  readonly drainMs?: number;
}

/** Of {@link thaw}. */
export interface ThawOptions {
  /** The memory of a block: at least as long as it was. */
  readonly memory: (block: string) => Uint8Array | Promise<Uint8Array>;
  /** What was announced before. */
  readonly expected?: ExpectedMove;
}

/** Of {@link QueuePair.connect}. */
export interface ConnectOptions {
  /**
   * For the peer, with the request or the reply: at most 508 bytes (iWARP), or 56 (InfiniBand, RoCE), where it arrives filled up with zeros to a
   * fixed length.
   */
  readonly privateData?: Uint8Array;
  /** Ends the attempt: CANCELLED, and the queue pair is closed. */
  readonly signal?: AbortSignal;
}

/** Of {@link QueuePair.accept}. */
export interface AcceptOptions extends ConnectOptions {
  /**
   * The peer takes a message right after the reply, as this package does. Default false: the first SEND or WRITE of the accepting side waits
   * until the peer has sent something, 200 ms at most, which Linux' software iWARP (siw) needs.
   */
  readonly maySendAtOnce?: boolean;
}

/** Of {@link listen}. */
export interface ListenOptions {
  /** As with {@link openDomain}. The domain that accepts must be of the same one. */
  readonly provider?: ProviderChoice;
  /**
   * Requests that wait for the async iterator; who comes after them is rejected. 1 to 64, default 64: so many unanswered ones a provider takes, and
   * then the software RNIC leaves who comes in the kernel's queue, a device rejects.
   */
  readonly backlog?: number;
  /** Time that a peer has for its request, milliseconds. Default 10,000. */
  readonly connectTimeoutMs?: number;
  /** Closes the listener; waiting for a request then throws CANCELLED. */
  readonly signal?: AbortSignal;
  /** Told of who came and spoke no RDMA, at most once a second. What it throws is ignored. */
  readonly onStranger?: (stranger: Stranger) => void;
}

/** Somebody who came to a listener and is no peer. */
export interface Stranger {
  readonly address: string;
  /** In words; never the stranger's own bytes. */
  readonly spoke: string;
  /** Strangers since the last one that was told, this one included. */
  readonly count: number;
}

/** Of {@link QueuePair.completions} and {@link QueuePair.onCompletions}. */
export interface CompletionOptions {
  /** The batch to use; default one of 256. */
  readonly batch?: CompletionBatch;
  /** Ends waiting: CANCELLED. */
  readonly signal?: AbortSignal;
}
