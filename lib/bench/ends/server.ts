/** The end that listens: serves one client after the other. */
import { randomBytes } from 'node:crypto';
import { MigrationError, toMigrationError } from '../../errors.ts';
import { parseRdmaUri } from '../../protocol/uri.ts';
import {
  type ChosenProvider,
  type ConnectionRequest,
  type Listener,
  listen,
  openDomain,
  type ProviderChoice,
} from '../../verbs/index.ts';
import { BufferMemory } from '../measure/buffers.ts';
import { ramToSpare } from '../measure/machine.ts';
import { decodeHello, encodeWelcome, type Hello, VERSION, type Welcome } from '../wire/hello.ts';
import { Channel } from './channel.ts';
import { Session } from './session.ts';

/** Clients that are being told why they are not served, at one time. */
const MOST_REFUSALS = 8;
/** One that was told goes by itself. */
const REFUSED_GOES_MS = 2_000;

export interface ServeOptions {
  readonly provider?: ProviderChoice;
  /** For whole migrations; default 0: any free one. */
  readonly migrationPort?: number;
  /** Bytes of RAM that a client may ask for in a migration; default: the memory that is available then, less a reserve. */
  readonly maxRam?: number;
  /** Ends when the first client has left; who leaves before it has asked anything is none. Default false. */
  readonly once?: boolean;
  readonly signal?: AbortSignal;
}

/** What happens, for whoever watches. */
export interface ServerEvents {
  came?(peer: string): void;
  /** `error`: unless it left in good order. */
  left?(peer: string, error: MigrationError | undefined): void;
  refused?(peer: string, why: Welcome['status']): void;
}

export class BenchServer implements AsyncDisposable {
  readonly #listener: Listener;
  readonly #options: ServeOptions;
  readonly #events: ServerEvents;
  readonly #host: string;
  readonly #ended: { promise: Promise<void>; resolve: () => void };
  readonly #stop = new AbortController();
  readonly #memory = new BufferMemory();
  #session: Session | undefined;
  #serving: Promise<void> | undefined;
  #busy = false;
  #refusals = 0;

  private constructor(listener: Listener, host: string, options: ServeOptions, events: ServerEvents) {
    this.#listener = listener;
    this.#host = host;
    this.#options = options;
    this.#events = events;
    let resolve = (): void => {};
    const promise = new Promise<void>((settle) => {
      resolve = settle;
    });
    this.#ended = { promise, resolve };
  }

  /** @throws MigrationError INVALID_URI, ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED, PROVIDER_UNAVAILABLE */
  static async listen(
    uri: string,
    options: ServeOptions = {},
    events: ServerEvents = {},
  ): Promise<BenchServer> {
    const { host, port } = parseRdmaUri(uri);
    let server: BenchServer | undefined;
    const listener = await listen(
      { host, port },
      { provider: options.provider ?? 'auto', ...(options.signal && { signal: options.signal }) },
      (request) => (server === undefined ? request.reject() : server.#come(request)),
    );
    server = new BenchServer(listener, host, options, events);
    return server;
  }

  get uri(): string {
    return `rdma:${this.#listener.address}`;
  }

  get provider(): ChosenProvider {
    return this.#listener.provider;
  }

  /** Until the signal aborts, or with `once` until the first client has left. @throws MigrationError CANCELLED */
  async serve(): Promise<void> {
    const { signal } = this.#options;
    const onAbort = (): void => this.#ended.resolve();
    signal?.addEventListener('abort', onAbort, { once: true });
    if (signal?.aborted) onAbort();
    await this.#ended.promise;
    signal?.removeEventListener('abort', onAbort);
    await this.close();
    if (signal?.aborted)
      throw new MigrationError('CANCELLED', 'listen', 'the benchmark was cancelled', {
        cause: signal.reason,
      });
  }

  async close(): Promise<void> {
    this.#stop.abort();
    await this.#listener.close();
    await this.#serving;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #come(request: ConnectionRequest): void {
    const hello = decodeHello(request.privateData);
    if (hello === undefined || this.#stop.signal.aborted) request.reject();
    else if (hello.kind === 'unknown') this.#refuse(request, 'version');
    else if (hello.kind === 'data') this.#join(request, hello);
    else if (this.#busy) this.#refuse(request, 'busy');
    else {
      this.#busy = true;
      this.#serving = this.#serve(request);
    }
  }

  #join(request: ConnectionRequest, hello: Hello): void {
    const session = this.#session;
    // A failure shows at the client: it is rejected, or its own queue pair ends.
    if (session?.token === hello.token) session.join(request, hello).catch(() => rejectUnanswered(request));
    else request.reject();
  }

  /** Never rejects. */
  async #serve(request: ConnectionRequest): Promise<void> {
    const peer = request.peerAddress;
    this.#events.came?.(peer);
    const error = await this.#attend(request).then(
      () => undefined,
      (thrown: unknown) => toMigrationError(thrown, 'verbs'),
    );
    if (error !== undefined) rejectUnanswered(request);
    const asked = this.#session?.asked ?? false;
    this.#session = undefined;
    this.#busy = false;
    this.#events.left?.(peer, error);
    if (this.#options.once && asked) this.#ended.resolve();
  }

  async #attend(request: ConnectionRequest): Promise<void> {
    const { name } = this.provider;
    await using domain = await openDomain({ provider: name });
    await using channel = await Channel.open(domain);
    const token = randomBytes(8).readBigUInt64BE();
    const { migrationPort = 0, maxRam } = this.#options;
    const session = new Session({
      ...{ domain, channel, token, provider: name, host: this.#host, migrationPort, memory: this.#memory },
      maxRam: () => maxRam ?? ramToSpare(),
    });
    this.#session = session;
    const privateData = encodeWelcome({ version: VERSION, status: 'welcome', token });
    await channel.queuePair.accept(request, { privateData, signal: this.#stop.signal });
    await session.run(this.#stop.signal);
  }

  /** Says why, and goes: a connection that is merely rejected tells its client nothing. */
  #refuse(request: ConnectionRequest, status: Welcome['status']): void {
    this.#events.refused?.(request.peerAddress, status);
    if (this.#refusals === MOST_REFUSALS) {
      request.reject();
      return;
    }
    this.#refusals++;
    void this.#tell(request, status)
      .catch(() => rejectUnanswered(request))
      .finally(() => {
        this.#refusals--;
      });
  }

  async #tell(request: ConnectionRequest, status: Welcome['status']): Promise<void> {
    await using domain = await openDomain({ provider: this.provider.name });
    const queuePair = domain.createQueuePair();
    const privateData = encodeWelcome({ version: VERSION, status, token: 0n });
    await queuePair.accept(request, { privateData, signal: this.#stop.signal });
    const late = new Promise((resolve) => setTimeout(resolve, REFUSED_GOES_MS).unref());
    await Promise.race([queuePair.closed, late]);
  }
}

/** What failed before it could be answered would keep its client waiting, and hold one of the listener's places. */
function rejectUnanswered(request: ConnectionRequest): void {
  try {
    request.reject();
  } catch (error) {
    if (toMigrationError(error, 'verbs').code !== 'INVALID_ARGUMENT') throw error; // answered already
  }
}
