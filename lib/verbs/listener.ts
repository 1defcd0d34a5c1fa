import { MigrationError, toMigrationError } from '../errors.ts';
import { native } from '../native/index.ts';
import type { NativeConnectionRequest, NativeListener } from '../native/transport.ts';
import { invalid } from '../options/check.ts';
import type { ChosenProvider } from '../transport/provider.ts';
import { type ConnectionRequest, makeRequest } from './connection-request.ts';
import { choose } from './domain.ts';
import { cancelled } from './failure.ts';
import { checkEndpoint, checkListen, MOST_UNANSWERED } from './option-schema.ts';
import type { Endpoint, ListenOptions, Stranger } from './options.ts';

const CONNECT_TIMEOUT_MS = 10_000;
const STALL_TIMEOUT_MS = 30_000;

/** Answers or keeps the request. What it throws rejects the request, if it has not been answered, and is an uncaught exception. */
export type OnRequest = (request: ConnectionRequest) => void;

let open: (
  endpoint: Endpoint,
  provider: ChosenProvider,
  options: ListenOptions,
  onRequest: OnRequest | undefined,
) => Promise<Listener>;

/**
 * Waits for peers. With `onRequest`, each request is given to it; without, requests wait for `for await (const request of listener)`.
 * @throws MigrationError ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED, PROVIDER_UNAVAILABLE, CANCELLED, INVALID_ARGUMENT
 */
export async function listen(
  endpoint: Endpoint,
  options: ListenOptions = {},
  onRequest?: OnRequest,
): Promise<Listener> {
  checkEndpoint(endpoint);
  checkListen(options);
  const { provider = 'auto', signal } = options;
  if (signal?.aborted) throw cancelled(signal, 'listen', 'listening');
  const chosen = await choose(provider, endpoint, 'listen');
  return open(endpoint, chosen, options, onRequest);
}

/** An address that peers connect to: `listen()`. It keeps the process running until it is closed. */
export class Listener implements AsyncDisposable {
  /** The provider in use and why. A queue pair of the same one can accept. */
  readonly provider: ChosenProvider;
  readonly #options: ListenOptions;
  readonly #onRequest: OnRequest;
  readonly #waiting: ConnectionRequest[] = [];
  #native: NativeListener | undefined;
  #end: MigrationError | 'closed' | undefined;
  #wake: (() => void) | undefined;
  #iterated = false;
  #closing: Promise<void> | undefined;

  static {
    open = async (endpoint, provider, options, onRequest) => {
      const listener = new Listener(provider, options, onRequest);
      await listener.#open(endpoint);
      return listener;
    };
  }

  private constructor(provider: ChosenProvider, options: ListenOptions, onRequest: OnRequest | undefined) {
    this.provider = provider;
    this.#options = options;
    this.#onRequest = onRequest ?? ((request) => this.#keep(request));
  }

  async #open(endpoint: Endpoint): Promise<void> {
    const { connectTimeoutMs = CONNECT_TIMEOUT_MS, signal } = this.#options;
    const limits = { crc: false, connectTimeoutMs, stallTimeoutMs: STALL_TIMEOUT_MS };
    try {
      this.#native = await native.listen(
        this.provider.name,
        endpoint,
        limits,
        (request) => this.#come(request),
        (error) => this.#stop(toMigrationError(error, 'listen')),
        (stranger) => this.#tell(stranger),
      );
    } catch (error) {
      throw toMigrationError(error, 'listen');
    }
    if (signal?.aborted) {
      await this.close();
      throw cancelled(signal, 'listen', 'listening');
    }
    signal?.addEventListener('abort', this.#onAbort, { once: true });
  }

  /** `192.0.2.1:4444`, with the port that was bound. */
  get address(): string {
    return this.#native?.address ?? '';
  }

  /** The real one, if 0 was asked for; 0 while it does not listen. */
  get port(): number {
    return this.#native?.port ?? 0;
  }

  /**
   * Requests as they come. It ends when the listener is closed. One consumer at a time.
   * @throws MigrationError LISTEN_FAILED (its device is gone), CANCELLED, INVALID_ARGUMENT (a second consumer)
   */
  async *[Symbol.asyncIterator](): AsyncGenerator<ConnectionRequest, void, undefined> {
    if (this.#iterated) throw invalid('somebody takes the requests of this listener already');
    this.#iterated = true;
    try {
      for (;;) {
        const request = this.#waiting.shift();
        if (request !== undefined) yield request;
        else if (this.#end instanceof MigrationError) throw this.#end;
        else if (this.#end !== undefined) return;
        else await this.#nextWake();
      }
    } finally {
      this.#iterated = false;
    }
  }

  /** Waits for peers no more, and rejects those that wait for the iterator. What was accepted goes on. Idempotent. */
  close(): Promise<void> {
    this.#stop('closed');
    this.#closing ??= (async () => {
      await this.#native?.close();
    })();
    return this.#closing;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #come(from: NativeConnectionRequest): void {
    const request = makeRequest(from);
    try {
      if (this.#end === undefined) this.#onRequest(request);
      else drop(request);
    } catch (error) {
      drop(request);
      throw error;
    }
  }

  #keep(request: ConnectionRequest): void {
    if (this.#waiting.length < (this.#options.backlog ?? MOST_UNANSWERED)) this.#waiting.push(request);
    else drop(request);
    this.#wake?.();
  }

  #tell(stranger: Stranger): void {
    try {
      this.#options.onStranger?.(stranger);
    } catch {
      // a report; who listens goes on
    }
  }

  readonly #onAbort = (): void => {
    this.#stop(cancelled(this.#options.signal, 'listen', 'listening'));
    void this.close();
  };

  #stop(end: MigrationError | 'closed'): void {
    if (this.#end !== undefined) return;
    this.#end = end;
    this.#options.signal?.removeEventListener('abort', this.#onAbort);
    for (const request of this.#waiting.splice(0)) drop(request);
    this.#wake?.();
  }

  #nextWake(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = resolve;
    });
  }
}

/** Rejects a request that nobody has answered. */
function drop(request: ConnectionRequest): void {
  try {
    request.reject();
  } catch {
    // answered already
  }
}
