import { raceAbort } from '../abort.ts';
import { type MigrationError, toMigrationError } from '../errors.ts';
import type { NativeQueuePairOptions, NativeVerbsQueuePair } from '../native/verbs.ts';
import { Links } from '../transport/links.ts';
import { integer } from './checks.ts';
import { CompletionBatch } from './completion-batch.ts';
import { CompletionReader } from './completion-reader.ts';
import { type ConnectionRequest, takeRequest } from './connection-request.ts';
import { cancelled, posting } from './failure.ts';
import { checkAccept, checkCompletions, checkConnect, checkEndpoint } from './option-schema.ts';
import type {
  AcceptOptions,
  CompletionOptions,
  ConnectOptions,
  Endpoint,
  QueuePairOptions,
} from './options.ts';
import type { RecvWorkRequest, SendWorkRequest, WorkRequest } from './work-request.ts';
import { WorkRequestBatch } from './work-request-batch.ts';

/**
 * `INIT`: requests can be posted, and sends wait. `RTS` (ready to send): connected. `SQD` (send queue drained): disconnect() was called, what
 * was posted is still sent. `SUSPENDED`: without a way to the peer, and waiting for another one. `TERMINATE`: the peer broke the rules and is
 * being told. `ERROR`: it has ended.
 */
export type QueuePairState = 'INIT' | 'RTS' | 'SQD' | 'SUSPENDED' | 'TERMINATE' | 'ERROR';

/** Of a connection, for logs. */
export interface QueuePairInfo {
  /** `iwarp` or `verbs`. */
  readonly provider: string;
  /** `127.0.0.1:4444`, `[::1]:4444` */
  readonly localAddress: string;
  readonly peerAddress: string;
  /** One line, such as `MPA revision 2, CRC32C off`. */
  readonly detail: string;
  readonly crc: boolean;
  /** It outlives its connection: both ends have {@link QueuePairOptions.resume}. */
  readonly resumable: boolean;
}

/** Of a resumable queue pair. `lost`: its connection broke, and what is posted waits (`SUSPENDED`). `restored`: it goes on over a new one. */
export type LinkChange =
  | { readonly state: 'lost'; readonly reason: MigrationError }
  /** Milliseconds without. */
  | { readonly state: 'restored'; readonly lostMs: number };

/** Bytes so far. */
export interface QueuePairCounters {
  /** On the wire, headers included; a device counts those of messages only. */
  readonly bytesSent: bigint;
  readonly bytesReceived: bigint;
  /** What the peer's WRITEs have put here. A device does not tell. */
  readonly writeBytesPlaced: bigint;
  /** Of the peer's messages, without headers. Of its WRITEs a device does not tell. */
  readonly payloadReceived: bigint;
  /** New connections that took the place of one that broke, and bytes of messages that were begun again on them. */
  readonly resumes: number;
  readonly payloadResent: bigint;
}

const RETRY_MS = 100;
const DEFAULTS: NativeQueuePairOptions = {
  maxSendWr: 256,
  maxRecvWr: 256,
  crc: false,
  connectTimeoutMs: 10_000,
  stallTimeoutMs: 30_000,
};
const NO_DATA = new Uint8Array();

type Create = (options: NativeQueuePairOptions, onWake: () => void) => NativeVerbsQueuePair;
type OnEnded = (queuePair: QueuePair) => void;

let make: (create: Create, options: QueuePairOptions, onEnded: OnEnded) => QueuePair;
let look: (queuePair: QueuePair) => NativeVerbsQueuePair;
let lookAtOptions: (queuePair: QueuePair) => NativeQueuePairOptions;

/** Send queue, receive queue and completions of one connection: `domain.createQueuePair()`. */
export class QueuePair implements AsyncDisposable {
  /** Resolves when it has ended, with the reason unless the end was orderly. Never rejects. Its completions can still be taken. */
  readonly closed: Promise<MigrationError | null>;
  readonly #native: NativeVerbsQueuePair;
  readonly #reader: CompletionReader;
  readonly #links: Links;
  readonly #options: NativeQueuePairOptions;
  readonly #scratch = { send: new WorkRequestBatch(16), recv: new WorkRequestBatch(16) };
  #closing: Promise<void> | undefined;

  static {
    make = (create, options, onEnded) => new QueuePair(create, options, onEnded);
    look = (queuePair) => queuePair.#native;
    lookAtOptions = (queuePair) => queuePair.#options;
  }

  private constructor(create: Create, options: QueuePairOptions, onEnded: OnEnded) {
    const { resume, ...rest } = options;
    const wanted = {
      ...DEFAULTS,
      ...rest,
      ...(resume && { resume: { windowMs: resume.windowMs, retryMs: resume.retryMs ?? RETRY_MS } }),
    };
    this.#options = wanted;
    this.#native = create(wanted, () => this.#reader.wake());
    this.#links = new Links(this.#native, 'verbs');
    this.closed = this.#native.closed.then((reason) => {
      onEnded(this);
      void this.close(); // what has ended holds nothing
      return reason === null ? null : toMigrationError(reason, 'verbs');
    });
    this.#reader = new CompletionReader(this.#native, this.closed);
  }

  /** As of now: it may change at any moment with what the peer does. */
  get state(): QueuePairState {
    return this.#native.state as QueuePairState;
  }

  /** The provider, and what has been agreed on with the peer. */
  get info(): QueuePairInfo {
    return this.#native.info;
  }

  /** Bytes and requests since it was made, as of now. */
  get counters(): QueuePairCounters {
    return this.#native.counters();
  }

  /**
   * Connects, within `connectTimeoutMs`, and resolves with what the peer has sent along with its reply. After a failure the queue pair is closed.
   * @throws MigrationError CONNECTION_REFUSED, CONNECT_FAILED, ADDRESS_NOT_FOUND, REJECTED, TIMEOUT, MPA_ERROR, CANCELLED, INVALID_ARGUMENT
   */
  async connect(endpoint: Endpoint, options: ConnectOptions = {}): Promise<Uint8Array> {
    checkEndpoint(endpoint);
    checkConnect(options);
    const { privateData = NO_DATA, signal } = options;
    if (signal?.aborted) return this.#tooLate(signal);
    return this.#handshake(() => this.#native.connect(endpoint, privateData), signal);
  }

  /**
   * Answers a peer, and resolves with what it has sent along when it is connected. The request is this call's, whatever comes of it.
   * @throws MigrationError CONNECTION_LOST, TIMEOUT, CANCELLED, INVALID_ARGUMENT
   */
  async accept(request: ConnectionRequest, options: AcceptOptions = {}): Promise<Uint8Array> {
    checkAccept(options);
    const { privateData = NO_DATA, maySendAtOnce = false, signal } = options;
    if (signal?.aborted) {
      takeRequest(request).drop();
      return this.#tooLate(signal);
    }
    return this.#handshake(
      () => this.#native.accept(takeRequest(request), privateData, maySendAtOnce),
      signal,
    );
  }

  async #handshake(start: () => Promise<Uint8Array>, signal: AbortSignal | undefined): Promise<Uint8Array> {
    try {
      return await raceAbort(start(), signal, () => handshakeCancelled(signal));
    } catch (cause) {
      const error = toMigrationError(cause, 'connect');
      if (error.code !== 'INVALID_ARGUMENT') await this.close();
      throw error;
    }
  }

  /** One that is connected is left alone. */
  async #tooLate(signal: AbortSignal): Promise<never> {
    if (this.state === 'INIT') await this.close();
    throw handshakeCancelled(signal);
  }

  /**
   * Posts SENDs, WRITEs and READs, in order, as many as there is room for, and gives their number. Of a batch, those from `first` on, `count`
   * at most.
   * @throws MigrationError INVALID_ARGUMENT (a key, a range or a field is wrong; `details.posted` requests before it were posted),
   * CONNECTION_CLOSED
   */
  postSend(requests: WorkRequestBatch | readonly SendWorkRequest[], first = 0, count?: number): number {
    const batch = this.#batch(requests, 'send');
    return posting(() => this.#native.postSend(batch.bytes, first, span(batch, first, count)));
  }

  /** The same for RECVs. */
  postRecv(requests: WorkRequestBatch | readonly RecvWorkRequest[], first = 0, count?: number): number {
    const batch = this.#batch(requests, 'recv');
    return posting(() => this.#native.postRecv(batch.bytes, first, span(batch, first, count)));
  }

  #batch(
    requests: WorkRequestBatch | readonly (SendWorkRequest | RecvWorkRequest)[],
    queue: 'send' | 'recv',
  ): WorkRequestBatch {
    if (requests instanceof WorkRequestBatch) return requests;
    if (requests.length > this.#scratch[queue].capacity)
      this.#scratch[queue] = new WorkRequestBatch(requests.length);
    const batch = this.#scratch[queue].clear();
    for (const request of requests)
      batch.push((queue === 'recv' ? { ...request, opcode: 'RECV' } : request) as WorkRequest);
    return batch;
  }

  /** Takes the completions that are there, without waiting (ibv_poll_cq). How many; they are in the batch. */
  pollCompletions(batch: CompletionBatch): number {
    return this.#reader.poll(batch);
  }

  /**
   * Completions of both queues, as they come, in batches that are never empty. It ends when the queue pair has ended in order and every
   * completion has been taken, and throws what ended it otherwise. Every round has the same batch object. One consumer at a time.
   * @throws MigrationError what ended the queue pair; CANCELLED; INVALID_ARGUMENT (a second consumer)
   */
  completions(options: CompletionOptions = {}): AsyncGenerator<CompletionBatch, void, undefined> {
    checkCompletions(options);
    return this.#reader.read(options.batch ?? new CompletionBatch(), options.signal);
  }

  /**
   * The same as a callback, on this thread's event loop; `closed` tells of the end. Gives a function that stops it. What the callback throws is an
   * uncaught exception of the process.
   * @throws MigrationError INVALID_ARGUMENT (a second consumer)
   */
  onCompletions(callback: (batch: CompletionBatch) => void, options: CompletionOptions = {}): () => void {
    checkCompletions(options);
    return this.#reader.listen(callback, options.batch ?? new CompletionBatch(), options.signal);
  }

  /**
   * Tells of a resumable queue pair's links from here on, until the function that this gives is called. What the callback throws is an uncaught
   * exception of the process.
   */
  onLinkChange(callback: (change: LinkChange) => void): () => void {
    return this.#links.watch(({ lost, lostMs = 0 }) =>
      callback(lost ? { state: 'lost', reason: lost } : { state: 'restored', lostMs }),
    );
  }

  /** Sends what has been posted, then ends the connection. Resolves when it has ended, within `stallTimeoutMs` whatever the peer does. */
  async disconnect(): Promise<void> {
    if (this.state === 'INIT') await this.close();
    this.#native.disconnect();
    await this.closed;
  }

  /** Ends it now. What was outstanding completes with WR_FLUSH_ERR, and can still be taken. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#native.close();
    return this.#closing;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** For {@link Domain.createQueuePair}. */
export const makeQueuePair: typeof make = (...given) => make(...given);

/** For who moves it. */
export const nativeOf = (queuePair: QueuePair): NativeVerbsQueuePair => look(queuePair);
export const optionsOfQueuePair = (queuePair: QueuePair): NativeQueuePairOptions => lookAtOptions(queuePair);

const handshakeCancelled = (signal: AbortSignal | undefined): MigrationError =>
  cancelled(signal, 'connect', 'the handshake');

function span(batch: WorkRequestBatch, first: number, count = batch.length - first): number {
  integer(first, 0, batch.length, 'first');
  return integer(count, 0, batch.length - first, 'count');
}
