import { setMaxListeners } from 'node:events';
import { MigrationError, type Phase, toMigrationError } from '../errors.ts';
import type { NativeCoverage, NativeMapping, NativeRuns } from '../native/memory.ts';
import type {
  NativeConnection,
  NativeConnectionInfo,
  NativeConnectionStats,
  NativeKeys,
  NativeWriteJob,
  NativeWriteResult,
} from '../native/transport.ts';
import { CONTROL_MAX_BYTES, type ControlMessage, decodeControl, encodeControl } from '../protocol/control.ts';
import { encodeReason } from '../protocol/reason.ts';
import type { MessagePort } from '../trust/message-stream.ts';
import { SEAL_BYTES } from '../trust/sealed-messages.ts';
import type { SessionKeys } from '../trust/session-keys.ts';
import type { WaitingFor } from '../waiting.ts';
import { labelled, orderlyEnd, type Peer, type PeerRole, peerError } from './connection-errors.ts';
import { ConnectionRails } from './connection-rails.ts';
import { END_REASON_MS, tellsOnlyTheEnd } from './end-reason.ts';
import { Links } from './links.ts';
import { whileItMoves } from './progress-watch.ts';
import type { Secured } from './secured.ts';
import { throwIfAborted, within } from './wait.ts';

/** A turn-taking peer never has more than an answer, a READY and an ERROR under way. */
const INBOX_LIMIT = 4;
/** How long a failing side waits for the wire to move before it gives up telling its peer, and how often it looks. */
const ERROR_NOTICE_MS = 1_000;
const ERROR_NOTICE_LOOKS = 10;

/** Of a wait that nothing makes longer but a lost link. */
const NOTHING_MOVES = (): bigint => 0n;

/** Waits that a connection's end may cut short at one time: a rail's each, and some more. Above it Node warns of a leak. */
const MOST_WAITERS = 32;

/** A message and the bytes that it came in. */
export interface Received {
  readonly message: ControlMessage;
  readonly bytes: Uint8Array;
}

/** How a connection ended. */
export interface ConnectionEnd {
  /** The peer disconnected in good order, or this side closed. */
  readonly orderly: boolean;
  readonly error: MigrationError;
}

/**
 * An established connection: typed control messages in and out, memory registration, RDMA WRITEs. Messages are taken from the
 * wire as they come, so that an ERROR or a lost peer is noticed at any moment; `ended` fires then. What it has registered ends with it.
 */
export class Connection {
  /** Labels this connection's errors; the migration sets it as it goes. */
  phase: Phase = 'negotiate';
  /** The peer understands an ERROR that says why; set when that has been agreed. */
  tellsReasons = false;
  readonly info: NativeConnectionInfo;
  /** The peer's private data. */
  readonly privateData: Uint8Array;

  readonly #native: NativeConnection;
  /** Where messages go and come from. */
  readonly #port: MessagePort;
  readonly #peer: Peer;
  readonly #inbox: Received[] = [];
  readonly #ended = new AbortController();
  #end: ConnectionEnd | undefined;
  #wake: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  /** Its further queue pairs. */
  readonly rails: ConnectionRails;
  /** What becomes of its links, where it outlives them. */
  readonly links: Links;

  /** Absent: it is not protected. */
  readonly secured: Secured | undefined;

  /** `native` is established; this object owns it, and the keys, from now on. */
  constructor(native: NativeConnection, privateData: Uint8Array, peer: PeerRole, secured?: Secured) {
    this.#native = native;
    this.#port = secured?.port ?? native;
    this.secured = secured;
    this.info = native.info;
    this.#peer = { role: peer, address: this.info.peerAddress };
    setMaxListeners(MOST_WAITERS, this.#ended.signal);
    this.links = new Links(native, 'connect');
    this.rails = new ConnectionRails(native, {
      phase: () => this.phase,
      lostMs: () => this.links.lostMs,
      secured,
      endError: (error) => this.#endError(error),
    });
    this.privateData = privateData;
    void this.#pump();
  }

  /** Aborts, with the MigrationError as its reason, when the connection has ended, however it did. */
  get ended(): AbortSignal {
    return this.#ended.signal;
  }

  /** Of a protected connection: for its rails. */
  get keys(): SessionKeys | undefined {
    return this.secured?.keys;
  }

  /** Most bytes of one message, header included: sealing takes some of what the wire has room for. */
  get mostMessageBytes(): number {
    const sealed = this.secured !== undefined && !this.secured.encrypted;
    return CONTROL_MAX_BYTES - (sealed ? SEAL_BYTES : 0);
  }

  get counters(): BigUint64Array {
    return this.#native.counters;
  }

  /** Bytes that RDMA WRITEs of the peer have placed here, and wire bytes both ways, so far. */
  stats(): NativeConnectionStats {
    return this.#native.stats();
  }

  async #pump(): Promise<void> {
    try {
      for (;;) {
        const bytes = await this.#port.receive();
        if (bytes === null) break;
        this.#deliver({ message: decodeControl(bytes), bytes });
      }
      this.#finish(true, orderlyEnd(this.#peer, this.phase));
    } catch (error) {
      this.#finish(false, labelled(error, this.phase));
    }
  }

  #deliver(received: Received): void {
    const { message } = received;
    if (message.type === 'ERROR') throw peerError(this.#peer, message.reason, this.phase);
    if (this.#inbox.length >= INBOX_LIMIT) {
      throw new MigrationError(
        'PROTOCOL_ERROR',
        this.phase,
        `the peer sent a ${message.type} while ${INBOX_LIMIT} messages wait: it does not keep its turns`,
      );
    }
    this.#inbox.push(received);
    this.#wake?.();
  }

  /** Why the connection ended says more than that a call on it failed, and may be known a moment later. */
  async #endError(error: unknown): Promise<MigrationError> {
    const failure = labelled(error, this.phase);
    if (!this.#end && tellsOnlyTheEnd(failure)) {
      const limits = { timeoutMs: END_REASON_MS, phase: this.phase, what: 'the reason of the end' };
      await within(this.#hasEnded(), limits).catch(() => {});
    }
    return this.#end?.error ?? failure;
  }

  /** Resolves when it is known here why, which may be before the provider has ended it. */
  #hasEnded(): Promise<void> {
    return new Promise((resolve) => {
      if (this.ended.aborted) resolve();
      else this.ended.addEventListener('abort', () => resolve(), { once: true });
    });
  }

  #finish(orderly: boolean, error: MigrationError): void {
    this.#end ??= { orderly, error };
    this.#ended.abort(this.#end.error);
    this.#wake?.();
  }

  /**
   * Sends one message; resolves when it has left (its buffer is free again), not when the peer has it. `posted` is given its bytes at once:
   * the peer may get them even where the wait for that ends with an error.
   * @throws MigrationError CONNECTION_LOST and the wire's codes, TIMEOUT, CANCELLED
   */
  async send(
    message: ControlMessage,
    limits: { timeoutMs: number; signal?: AbortSignal | undefined },
    posted?: (bytes: Uint8Array) => void,
  ): Promise<void> {
    if (this.#end) throw this.#end.error;
    throwIfAborted(limits.signal, this.phase);
    const bytes = encodeControl(message);
    try {
      const sent = this.#port.send(bytes);
      posted?.(bytes);
      const what = `the network to take a ${message.type}`;
      const wanted = { ...limits, phase: this.phase, what, waitingFor: 'network' } as const;
      await whileItMoves(sent, wanted, NOTHING_MOVES, () => this.links.lostMs);
    } catch (error) {
      throw limits.signal?.aborted ? labelled(error, this.phase) : await this.#endError(error);
    }
  }

  /**
   * The next message in order. The wait goes on while the peer's RDMA WRITEs arrive, at {@link LEAST_RATE} at least: a source is
   * silent for as long as a pass takes.
   * @throws MigrationError the reason of the connection's end once everything that came before it was taken; TIMEOUT; CANCELLED
   */
  async receive(limits: {
    timeoutMs: number;
    signal?: AbortSignal | undefined;
    what: string;
    waitingFor?: WaitingFor;
  }): Promise<Received> {
    const moved = () => this.stats().payloadReceived;
    while (this.#inbox.length === 0 && !this.#end) {
      const arrived = new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
      const wanted = { ...limits, phase: this.phase };
      await whileItMoves(arrived, wanted, moved, () => this.links.lostMs).finally(() => {
        this.#wake = undefined;
      });
    }
    const received = this.#inbox.shift();
    if (received) return received;
    throw this.#end?.error ?? orderlyEnd(this.#peer, this.phase);
  }

  /** The message that {@link receive} would give at once, if there is one. */
  get waiting(): ControlMessage | undefined {
    return this.#inbox[0]?.message;
  }

  /** Waits for the connection's end. @throws MigrationError TIMEOUT, CANCELLED */
  async waitForEnd(limits: { timeoutMs: number; signal?: AbortSignal | undefined }): Promise<ConnectionEnd> {
    await within(this.#hasEnded(), { ...limits, phase: this.phase, what: 'the peer to disconnect' });
    return this.#end as ConnectionEnd;
  }

  /**
   * Registers spans of a mapping: all, or none. They live until {@link deregister} or the connection's close.
   * @throws MigrationError REGISTER_FAILED, LOCKED_MEMORY_LIMIT, or why the connection ended
   */
  async register(mapping: NativeMapping, spans: NativeRuns, access: number): Promise<NativeKeys> {
    try {
      return await this.#native.registerSpans(mapping, spans, access);
    } catch (error) {
      throw await this.#endError(error);
    }
  }

  /** From here on the coverage learns what the peer's WRITEs place. False: the provider does not. See {@link NativeConnection}. */
  observePlacement(coverage: NativeCoverage, mappings: readonly NativeMapping[]): boolean {
    return this.#native.observePlacement(coverage, mappings);
  }

  /** By local keys: the second number of each pair that {@link register} gave is not one. */
  async deregister(lkeys: Uint32Array): Promise<void> {
    if (lkeys.length > 0) await this.#native.deregister(lkeys);
  }

  /**
   * Takes every right to memory here from the peer, for good: what has landed by then is all that ever will. A WRITE that comes later is
   * refused, which ends the connection; messages go on, both ways. Harmless on a connection that has ended.
   * @throws MigrationError TIMEOUT, CANCELLED
   */
  async revokeRemoteAccess(limits: { timeoutMs: number; signal?: AbortSignal | undefined }): Promise<void> {
    const what = 'the peer’s rights to memory to end';
    await within(this.#native.revokeRemoteAccess(), { ...limits, phase: this.phase, what });
  }

  /** Resolves when every WRITE of the job has completed locally. */
  async write(job: NativeWriteJob): Promise<NativeWriteResult> {
    try {
      return await this.#native.write(job);
    } catch (error) {
      throw await this.#endError(error);
    }
  }

  /** @throws MigrationError RESOURCE_LIMIT when there is no thread that could pace */
  setMaxBandwidth(bytesPerSecond: bigint): void {
    try {
      this.#native.setMaxBandwidth(bytesPerSecond);
    } catch (error) {
      throw toMigrationError(error, this.phase);
    }
  }

  /** Stops writing, tells the peer that the migration failed and why, as far as it still can be told, and disconnects. Never throws. */
  async fail(failure: MigrationError): Promise<void> {
    this.#native.cancelWrites();
    // A peer that sent something wrong is still there and is told, as is one whose bytes find no room here; one that has failed itself knows.
    const ended = this.#end?.error.code;
    if (ended !== 'PEER_ERROR' && ended !== 'BUSY') {
      const reason = this.tellsReasons ? { reason: encodeReason(failure) } : {};
      // A promise also where it throws: whoever is not there any more is not told.
      const said = async () => this.#port.send(encodeControl({ type: 'ERROR', ...reason }));
      await this.#whileItMoves(said());
      await this.disconnect(ERROR_NOTICE_MS);
    }
    await this.close();
  }

  /** An ERROR comes after the WRITEs that are on their way, and a slow network takes its time for those. */
  async #whileItMoves(sending: Promise<void>): Promise<void> {
    const limits = {
      phase: 'close',
      timeoutMs: ERROR_NOTICE_MS,
      what: 'the network to take an ERROR',
    } as const;
    for (let look = 0; look < ERROR_NOTICE_LOOKS; look++) {
      const before = this.stats().bytesSent;
      const late = await within(sending, limits).then(
        () => false,
        (error: unknown) => error instanceof MigrationError && error.code === 'TIMEOUT',
      );
      if (!late || this.stats().bytesSent === before) return;
    }
  }

  /** Sends what is queued and ends the connection, within `timeoutMs`. Never throws. */
  async disconnect(timeoutMs: number): Promise<void> {
    await within(this.#native.disconnect(), {
      phase: 'close',
      timeoutMs,
      what: 'an orderly disconnect',
    }).catch(() => {});
  }

  /**
   * Sends what is queued, ends the connection, and waits for the peer to end it too, or to say ERROR.
   * @throws MigrationError TIMEOUT, CANCELLED
   */
  async disconnectAndWait(limits: {
    timeoutMs: number;
    signal?: AbortSignal | undefined;
  }): Promise<ConnectionEnd> {
    this.#native.disconnect().catch(() => {});
    await within(this.#hasEnded(), { ...limits, phase: this.phase, what: 'the peer to end the connection' });
    return this.#end as ConnectionEnd;
  }

  /** Messages that have come and that nobody has taken. */
  get unread(): readonly ControlMessage[] {
    return this.#inbox.map(({ message }) => message);
  }

  /** Ends it now and releases everything. Idempotent; never throws. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#native.close().catch(() => {});
    this.keys?.wipe();
    this.#finish(true, new MigrationError('CLOSED', this.phase, 'this connection was closed'));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
