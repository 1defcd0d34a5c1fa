import { type MigrationError, toMigrationError } from '../errors.ts';
import { native } from '../native/index.ts';
import type {
  NativeConnection,
  NativeConnectionOptions,
  NativeConnectionRequest,
  NativeListener,
  NativeStranger,
} from '../native/transport.ts';
import { asksToResume, isSoftwareRnic, rejectedByTunnel, takesChecks } from '../protocol/private-data.ts';
import { rejectedFor } from '../protocol/rejection.ts';
import type { HandshakeWatch, Trust } from '../trust/handshake.ts';
import type { ClearHandshake } from '../trust/session-keys.ts';
import { Connection } from './connection.ts';
import type { PeerRole } from './connection-errors.ts';
import { endReason } from './end-reason.ts';
import type { ProviderName } from './provider.ts';
import { secured } from './secured.ts';
import { GRACE_MS, throwIfAborted, within } from './wait.ts';

export interface Endpoint {
  readonly host: string;
  /** 0 when listening: any free port. */
  readonly port: number;
}

export interface ConnectOptions extends Omit<NativeConnectionOptions, 'crc' | 'holdUntilProtected'> {
  /** Absent: as the passive side has it, which asks for a CRC where both ends are our software RNIC and TLS checks nothing. */
  readonly crc?: boolean;
  /** Present: nothing is said before the peer has shown who it is. The private data of both ends says so too. */
  readonly tls?: Trust;
}

const nativeOptions = (
  { tls, crc, resume, ...options }: ConnectOptions,
  byDefault = false,
): NativeConnectionOptions => ({
  ...options,
  ...(resume && { resume: { ...resume, asked: true } }),
  crc: crc ?? (byDefault && tls === undefined), // records are checked by what seals them
  holdUntilProtected: tls !== undefined,
});

/**
 * Connects, exchanges private data, and protects the connection if that is asked for.
 * @throws MigrationError CONNECTION_REFUSED, ADDRESS_NOT_FOUND, REJECTED, TLS_REQUIRED, TLS_FAILED, NOT_AUTHORIZED, INTEGRITY_ERROR, CRYPTO_UNAVAILABLE,
 *   TIMEOUT, MPA_ERROR, CANCELLED
 */
export async function connect(
  provider: ProviderName,
  endpoint: Endpoint,
  privateData: Uint8Array,
  options: ConnectOptions,
  signal?: AbortSignal,
): Promise<Connection> {
  throwIfAborted(signal, 'connect');
  const connection = native.createConnection(provider, nativeOptions(options));
  const connected = async (): Promise<ClearHandshake> => ({
    request: privateData,
    reply: await connection.connect(endpoint, privateData),
  });
  return handshake(connection, connected, 'destination', options, signal);
}

async function handshake(
  connection: NativeConnection,
  establish: () => Promise<ClearHandshake>,
  peer: PeerRole,
  options: ConnectOptions,
  signal?: AbortSignal,
): Promise<Connection> {
  try {
    const timeoutMs = options.connectTimeoutMs + GRACE_MS;
    const clear = await within(establish(), {
      phase: 'connect',
      timeoutMs,
      signal,
      what: 'the connection to be established',
    });
    const data = peer === 'destination' ? clear.reply : clear.request;
    if (isSoftwareRnic(data)) connection.allowLargeSegments();
    const { tls } = options;
    const securing = tls && (await secured(connection, clear, { data, tls, timeoutMs, signal }));
    return new Connection(connection, data, peer, securing);
  } catch (error) {
    const why = await endReason(connection.closed, toMigrationError(error, 'connect'), 'connect');
    await connection.close().catch(() => {});
    throw rejection(why, options);
  }
}

/** A destination says with its rejection whether it lets only those in that have credentials, and whether it may be asked again. */
function rejection(error: MigrationError, { tls }: ConnectOptions): MigrationError {
  const data = (error.cause as { privateData?: Uint8Array } | undefined)?.privateData;
  if (!data) return error;
  return rejectedByTunnel(data, error) ?? rejectedFor(data, tls !== undefined, error) ?? error;
}

const watched = ({ tls, ...options }: ConnectOptions, watch: HandshakeWatch | undefined): ConnectOptions => ({
  ...options,
  ...(tls && { tls: { ...tls, ...(watch && { watch }) } }),
});

/** A peer that wants to connect: `accept`, `reject` or `drop` it, once. It costs one descriptor until it is accepted. */
export class IncomingConnection {
  readonly #provider: ProviderName;
  readonly #request: NativeConnectionRequest;
  readonly #options: ConnectOptions;

  constructor(provider: ProviderName, request: NativeConnectionRequest, options: ConnectOptions) {
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

  /**
   * `watch`: told how the peer's TLS handshake goes, if there is one.
   * @throws MigrationError CONNECTION_LOST, TLS_FAILED, NOT_AUTHORIZED, INTEGRITY_ERROR, CRYPTO_UNAVAILABLE, TIMEOUT, CANCELLED
   */
  async accept(privateData: Uint8Array, signal?: AbortSignal, watch?: HandshakeWatch): Promise<Connection> {
    const request = this.privateData;
    const crc = this.#provider === 'iwarp' && takesChecks(request);
    const { resume, ...options } = this.#options;
    const wanted = { ...options, ...(resume && asksToResume(request) && { resume }) };
    const connection = native.createConnection(this.#provider, nativeOptions(wanted, crc));
    const accepted = async (): Promise<ClearHandshake> => {
      await connection.accept(this.#request, privateData, isSoftwareRnic(request));
      return { request, reply: privateData };
    };
    return handshake(connection, accepted, 'source', watched(this.#options, watch), signal);
  }

  /**
   * Becomes one more queue pair of a connection, and ends with it. `index`: which one of its rails.
   * @throws MigrationError CONNECTION_LOST, TIMEOUT, or why the connection has ended
   */
  async join(connection: Connection, privateData: Uint8Array, index: number): Promise<void> {
    const { connectTimeoutMs } = this.#options;
    const rail = { index, connectTimeoutMs, signal: connection.ended };
    await connection.rails.accept(this.#request, privateData, rail);
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
    options: ConnectOptions,
    onIncoming: (incoming: IncomingConnection) => void,
    onFailed: (error: MigrationError) => void,
    onStranger: (stranger: NativeStranger) => void = () => {},
  ): Promise<Listener> {
    try {
      const listener = await native.listen(
        provider,
        endpoint,
        nativeOptions(options),
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
