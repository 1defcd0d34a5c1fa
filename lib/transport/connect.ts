import { type MigrationError, toMigrationError } from '../errors.ts';
import { native } from '../native/index.ts';
import type {
  NativeConnection,
  NativeConnectionOptions,
  NativeConnectionRequest,
  NativeListener,
  NativeStranger,
} from '../native/transport.ts';
import { isSoftwareRnic } from '../protocol/capabilities.ts';
import { Connection, GRACE_MS, type PeerRole } from './connection.ts';
import type { ProviderName } from './provider.ts';
import { throwIfAborted, within } from './wait.ts';

export interface Endpoint {
  readonly host: string;
  /** 0 when listening: any free port. */
  readonly port: number;
}

/**
 * Connects and exchanges private data.
 * @throws MigrationError CONNECTION_REFUSED, ADDRESS_NOT_FOUND, REJECTED, TIMEOUT, MPA_ERROR, CANCELLED
 */
export async function connect(
  provider: ProviderName,
  endpoint: Endpoint,
  privateData: Uint8Array,
  options: NativeConnectionOptions,
  signal?: AbortSignal,
): Promise<Connection> {
  throwIfAborted(signal, 'connect');
  const connection = native.createConnection(provider, options);
  const connected = () => connection.connect(endpoint, privateData);
  return handshake(connection, connected, 'destination', options, signal);
}

async function handshake(
  connection: NativeConnection,
  establish: () => Promise<Uint8Array>,
  peer: PeerRole,
  options: NativeConnectionOptions,
  signal?: AbortSignal,
): Promise<Connection> {
  try {
    const timeoutMs = options.connectTimeoutMs + GRACE_MS;
    const data = await within(establish(), {
      phase: 'connect',
      timeoutMs,
      signal,
      what: 'the connection to be established',
    });
    if (isSoftwareRnic(data)) connection.allowLargeSegments();
    return new Connection(connection, data, peer);
  } catch (error) {
    await connection.close().catch(() => {});
    throw toMigrationError(error, 'connect');
  }
}

/** A peer that wants to connect: `accept`, `reject` or `drop` it, once. It costs one descriptor until it is accepted. */
export class IncomingConnection {
  readonly #provider: ProviderName;
  readonly #request: NativeConnectionRequest;
  readonly #options: NativeConnectionOptions;

  constructor(provider: ProviderName, request: NativeConnectionRequest, options: NativeConnectionOptions) {
    this.#provider = provider;
    this.#request = request;
    this.#options = options;
  }

  get privateData(): Uint8Array {
    return this.#request.privateData;
  }

  get peerAddress(): string {
    return this.#request.peerAddress;
  }

  /** @throws MigrationError CONNECTION_LOST, TIMEOUT, CANCELLED */
  async accept(privateData: Uint8Array, signal?: AbortSignal): Promise<Connection> {
    const connection = native.createConnection(this.#provider, this.#options);
    const theirs = this.privateData;
    const accepted = async (): Promise<Uint8Array> => {
      await connection.accept(this.#request, privateData, isSoftwareRnic(theirs));
      return theirs;
    };
    return handshake(connection, accepted, 'source', this.#options, signal);
  }

  /**
   * Becomes one more queue pair of a connection, and ends with it.
   * @throws MigrationError CONNECTION_LOST, TIMEOUT, or why the connection has ended
   */
  async join(connection: Connection, privateData: Uint8Array): Promise<void> {
    const { connectTimeoutMs } = this.#options;
    await connection.acceptRail(this.#request, privateData, { connectTimeoutMs, signal: connection.ended });
  }

  /** Refuses, and tells the peer with private data; nobody waits for it to take that. Never throws. */
  reject(privateData: Uint8Array): void {
    try {
      this.#request.reject(privateData);
    } catch {
      this.#request.drop(); // the peer has gone already
    }
  }

  /** Refuses without a word. Idempotent. */
  drop(): void {
    this.#request.drop();
  }
}

/** Waits for peers on one address. */
export class Listener {
  readonly #native: NativeListener;
  #closing: Promise<void> | undefined;

  private constructor(listener: NativeListener) {
    this.#native = listener;
  }

  /**
   * `onFailed`: it serves nobody any more, for its device is gone (LISTEN_FAILED). `onStranger`: one came that spoke something else.
   * @throws MigrationError ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED
   */
  static async open(
    provider: ProviderName,
    endpoint: Endpoint,
    options: NativeConnectionOptions,
    onIncoming: (incoming: IncomingConnection) => void,
    onFailed: (error: MigrationError) => void,
    onStranger: (stranger: NativeStranger) => void = () => {},
  ): Promise<Listener> {
    try {
      const listener = await native.listen(
        provider,
        endpoint,
        options,
        (request) => onIncoming(new IncomingConnection(provider, request, options)),
        (error) => onFailed(toMigrationError(error, 'listen')),
        onStranger,
      );
      return new Listener(listener);
    } catch (error) {
      throw toMigrationError(error, 'listen');
    }
  }

  /** The real one. */
  get port(): number {
    return this.#native.port;
  }

  /** Idempotent; each call waits for the end of the first. */
  close(): Promise<void> {
    this.#closing ??= this.#native.close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
