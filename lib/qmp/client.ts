import type { Duplex } from 'node:stream';
import { MigrationError } from '../errors.ts';
import { connectUnix } from './connect.ts';
import { EventQueue } from './events.ts';
import { LineSplitter } from './lines.ts';
import { parseMessage, type QmpEvent, type QmpGreeting, type QmpMessage } from './messages.ts';
import { type WaitOptions, waitFor } from './wait.ts';

export type { QmpEvent, QmpGreeting } from './messages.ts';
export type { WaitOptions } from './wait.ts';

/** A running QEMU answers a command within milliseconds; `quit` and `stop` may have to wait for disks. */
const DEFAULT_TIMEOUT_MS = 10_000;
const CLOSE_TIMEOUT_MS = 1_000;

export interface QmpConnectOptions extends WaitOptions {
  /** The QMP socket: a path, or a stream that is already open and that the client then owns. */
  readonly socket: string | Duplex;
}

interface Pending {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (reason: unknown) => void;
}

/**
 * A client of the QEMU Machine Protocol (QEMU's "QMP Protocol Specification"): commands, and events as they come. Anything that
 * breaks the connection fails all commands under way and all later ones; the client does not reconnect.
 */
export class QmpClient implements AsyncDisposable {
  readonly #stream: Duplex;
  readonly #lines = new LineSplitter();
  readonly #pending = new Map<number, Pending>();
  readonly #queues = new Set<EventQueue>();
  #onGreeting: ((greeting: QmpGreeting) => void) | undefined;
  #onBroken: ((reason: MigrationError) => void) | undefined;
  #greeting: QmpGreeting | undefined;
  #broken: MigrationError | undefined;
  #nextId = 1;
  #closing: Promise<void> | undefined;

  private constructor(stream: Duplex) {
    this.#stream = stream;
    stream.on('data', (bytes: Buffer) => this.#receive(bytes));
    stream.on('error', (cause) => this.#break(lost(`failed: ${cause.message}`, cause)));
    stream.on('close', () =>
      this.#break(lost('was closed by QEMU: it ended, or its QMP socket has another client')),
    );
    stream.on('end', () =>
      this.#break(lost('was closed by QEMU: it ended, or its QMP socket has another client')),
    );
  }

  /**
   * Opens the connection, reads the greeting and leaves negotiation mode. `timeoutMs` (default 10 s) bounds each of the
   * three steps. On failure the stream is destroyed.
   *
   * @throws MigrationError `ADDRESS_NOT_FOUND`, `CONNECTION_REFUSED`, `PERMISSION_DENIED`, `CONNECT_FAILED`, `CONNECTION_CLOSED`,
   * `PROTOCOL_ERROR`, `PEER_ERROR`, `TIMEOUT`, `CANCELLED`.
   */
  static async connect(options: QmpConnectOptions): Promise<QmpClient> {
    const { socket, signal, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    const wait = { timeoutMs, signal };
    const what = 'connection';
    const stream =
      typeof socket === 'string' ? await connectUnix(socket, { phase: 'connect', what, ...wait }) : socket;
    const client = new QmpClient(stream);
    try {
      await client.#awaitGreeting(wait);
      await client.execute('qmp_capabilities', {}, options);
      return client;
    } catch (reason) {
      await client.close();
      throw reason;
    }
  }

  /** Version of the QEMU at the other end. */
  get greeting(): QmpGreeting {
    if (this.#greeting === undefined)
      throw new MigrationError('INTERNAL', 'negotiate', 'QMP: no greeting yet');
    return this.#greeting;
  }

  /**
   * Runs a command and gives its `return` value, which the caller checks. A command that timed out or was cancelled may
   * still take effect in QEMU; its late answer is dropped.
   *
   * @throws MigrationError `PEER_ERROR` with `details` `{ command, class, desc }` as QEMU gave them, `TIMEOUT` (default 10 s),
   * `CANCELLED`, `CLOSED` after {@link close}, `CONNECTION_CLOSED` or `PROTOCOL_ERROR` when the connection broke.
   */
  async execute(
    command: string,
    args: Readonly<Record<string, unknown>> = {},
    options: WaitOptions = {},
  ): Promise<unknown> {
    if (this.#broken) throw this.#broken;
    const id = this.#nextId++;
    const { signal, timeoutMs = DEFAULT_TIMEOUT_MS } = options;
    try {
      return await waitFor({ phase: 'setup', what: command, timeoutMs, signal }, (resolve, reject) => {
        this.#pending.set(id, { command, resolve, reject });
        this.#stream.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
      });
    } finally {
      this.#pending.delete(id);
    }
  }

  /**
   * The events from now on. Each call gives a separate reader; call it before the command whose events matter. Ends with
   * {@link close}; throws `CONNECTION_CLOSED` or `PROTOCOL_ERROR` when the connection broke, `PROTOCOL_ERROR` when 1024 events
   * were left unread.
   */
  events(): AsyncIterableIterator<QmpEvent> {
    const queue = new EventQueue((ended) => this.#queues.delete(ended));
    this.#queues.add(queue);
    if (this.#broken) queue.end(this.#broken.code === 'CLOSED' ? undefined : this.#broken);
    return queue;
  }

  /** Ends the connection; QEMU goes on. Never fails, returns within a second, idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#break(new MigrationError('CLOSED', 'close', 'the QMP client was closed'));
    if (this.#stream.closed) return;
    await waitFor<void>(
      { phase: 'close', what: 'close', timeoutMs: CLOSE_TIMEOUT_MS, signal: undefined },
      (resolve) => {
        this.#stream.once('close', () => resolve());
      },
    ).catch(() => undefined);
  }

  #awaitGreeting(wait: { timeoutMs: number; signal: AbortSignal | undefined }): Promise<void> {
    return waitFor<void>({ phase: 'negotiate', what: 'greeting', ...wait }, (resolve, reject) => {
      this.#onBroken = reject;
      this.#onGreeting = (greeting) => {
        this.#greeting = greeting;
        resolve();
      };
      if (this.#broken) reject(this.#broken);
    });
  }

  #receive(bytes: Buffer): void {
    if (this.#broken) return;
    try {
      for (const line of this.#lines.push(bytes)) this.#dispatch(parseMessage(line));
    } catch (reason) {
      if (!(reason instanceof MigrationError)) throw reason;
      this.#break(reason);
    }
  }

  #dispatch(message: QmpMessage): void {
    switch (message.kind) {
      case 'greeting':
        if (!this.#onGreeting || this.#greeting) throw outOfTurn('a second greeting');
        this.#onGreeting(message.greeting);
        return;
      case 'event':
        for (const queue of [...this.#queues]) queue.push(message.event);
        return;
      case 'return':
        this.#take(message.id)?.resolve(message.value);
        return;
      case 'error':
        this.#fail(message);
        return;
    }
  }

  #fail({ id, errorClass, description }: Extract<QmpMessage, { kind: 'error' }>): void {
    if (id === undefined) throw outOfTurn(`an error without id (${errorClass}: ${description})`);
    const pending = this.#take(id);
    if (pending) pending.reject(refused(pending.command, errorClass, description));
  }

  /** The command that an answer belongs to; undefined when its caller has given up. */
  #take(id: number): Pending | undefined {
    if (id < 1 || id >= this.#nextId) throw outOfTurn(`an answer to command ${id}, which was not sent`);
    return this.#pending.get(id);
  }

  #break(reason: MigrationError): void {
    if (this.#broken) return;
    this.#broken = reason;
    this.#stream.destroy();
    this.#onBroken?.(reason);
    for (const pending of this.#pending.values()) pending.reject(reason);
    for (const queue of [...this.#queues]) queue.end(reason.code === 'CLOSED' ? undefined : reason);
  }
}

function lost(what: string, cause?: unknown): MigrationError {
  return new MigrationError('CONNECTION_CLOSED', 'setup', `the QMP connection ${what}`, { cause });
}

function outOfTurn(what: string): MigrationError {
  return new MigrationError('PROTOCOL_ERROR', 'setup', `the QMP server sent ${what}. Is this a QEMU?`);
}

function refused(command: string, errorClass: string, desc: string): MigrationError {
  return new MigrationError('PEER_ERROR', 'setup', `QEMU refused ${command}: ${desc}`, {
    details: { command, class: errorClass, desc },
  });
}
