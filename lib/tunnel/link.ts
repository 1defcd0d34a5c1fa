/** The connection of one stream, from the handshake to the point where its bytes may flow: private data, TLS, rings. */
import { MigrationError, toMigrationError } from '../errors.ts';
import { native } from '../native/index.ts';
import type { NativeConnection, NativeConnectionRequest } from '../native/transport.ts';
import type { NativeTunnelStream } from '../native/tunnel.ts';
import { endReason } from '../transport/end-reason.ts';
import type { ProviderName } from '../transport/provider.ts';
import { RecordPort } from '../transport/record-port.ts';
import { within } from '../transport/wait.ts';
import { peerName } from '../trust/authorize.ts';
import type { Trust } from '../trust/handshake.ts';
import { protect } from '../trust/protection.ts';
import { decodeHello, encodeHello, type Hello, type Status, unpadded, VERSION } from './hello.ts';
import type { TunnelTls } from './options.ts';
import { decodeRing, encodeRefused, encodeRing, type Ring } from './ring.ts';

/** A provider ends a handshake that takes too long by itself; this is for one that does not. */
const GRACE_MS = 2_000;
/** For a last word to leave, behind what is under way: a ring at most. */
const FAREWELL_MS = 3_000;

export interface LinkSettings {
  readonly provider: ProviderName;
  readonly crc: boolean | undefined;
  readonly connectTimeoutMs: number;
  readonly responseTimeoutMs: number;
  readonly ringBytes: number;
  readonly trust?: Trust;
}

/** This end's private data. */
export function helloOf({ provider, crc, trust }: LinkSettings, status: Status = 'welcome'): Uint8Array {
  const [softwareRnic, tls, unchecked] = [provider === 'iwarp', trust !== undefined, crc === false];
  return encodeHello({ version: VERSION, status, softwareRnic, tls, unchecked });
}

/** A connection whose peer is a tunnel, and has shown who it is if that is asked for. It is the owner's to {@link Link.close}. */
export class Link implements AsyncDisposable {
  readonly peer: string;
  /** Who the peer has proved to be; absent: nothing is protected. */
  readonly tls: TunnelTls | undefined;
  readonly #connection: NativeConnection;
  readonly #settings: LinkSettings;
  #stream: NativeTunnelStream | undefined;
  #closing: Promise<void> | undefined;

  private constructor(connection: NativeConnection, settings: LinkSettings, tls: TunnelTls | undefined) {
    this.tls = tls;
    this.#connection = connection;
    this.#settings = settings;
    this.peer = connection.info.peerAddress;
  }

  /** @throws MigrationError what keeps it from being made */
  static async dial(
    to: { readonly host: string; readonly port: number },
    settings: LinkSettings,
    signal: AbortSignal,
  ): Promise<Link> {
    const request = helloOf(settings);
    const crc = settings.crc ?? false; // as the passive end has it
    return Link.#make(settings, crc, signal, async (connection) => {
      const reply = await connection.connect(to, request);
      const hello = decodeHello(reply);
      if (hello.status !== 'welcome') throw refusal(hello.status);
      return { request, reply: unpadded(reply), hello };
    });
  }

  /** Takes the request over. @throws as {@link dial} */
  static async accept(
    request: NativeConnectionRequest,
    hello: Hello,
    settings: LinkSettings,
    signal: AbortSignal,
  ): Promise<Link> {
    const said = unpadded(request.privateData);
    const software = settings.provider === 'iwarp' && hello.softwareRnic;
    const crc = settings.crc ?? (software && !hello.unchecked && settings.trust === undefined);
    const reply = helloOf(settings);
    return Link.#make(settings, crc, signal, async (connection) => {
      await connection.accept(request, reply, hello.softwareRnic);
      return { request: said, reply, hello };
    });
  }

  static async #make(
    settings: LinkSettings,
    crc: boolean,
    signal: AbortSignal,
    establish: (connection: NativeConnection) => Promise<Clear>,
  ): Promise<Link> {
    const { provider, trust, connectTimeoutMs, responseTimeoutMs } = settings;
    const connection = native.createConnection(provider, {
      crc,
      connectTimeoutMs,
      stallTimeoutMs: responseTimeoutMs,
      holdUntilProtected: trust !== undefined,
    });
    try {
      const timeoutMs = connectTimeoutMs + GRACE_MS;
      const limits = {
        timeoutMs,
        signal,
        phase: 'connect',
        what: 'the connection to be established',
      } as const;
      const { hello, ...clear } = await within(establish(connection), limits);
      if (hello.softwareRnic) connection.allowLargeSegments();
      const tls = trust && (await secure(connection, trust, hello, clear, { timeoutMs, signal }));
      return new Link(connection, settings, tls);
    } catch (error) {
      const why = await endReason(connection.closed, toMigrationError(error, 'connect'), 'connect');
      await connection.close().catch(() => {});
      throw explained(why);
    }
  }

  /** This end's ring is registered, and said. @throws MigrationError TIMEOUT, or why it could not be registered, or said */
  async offer(signal: AbortSignal): Promise<NativeTunnelStream> {
    const { ringBytes, connectTimeoutMs: timeoutMs, responseTimeoutMs: silenceMs } = this.#settings;
    const limits = { phase: 'setup', timeoutMs, signal } as const;
    const making = native.createTunnelStream(this.#connection, ringBytes);
    try {
      const what = 'the memory of a stream to be registered';
      this.#stream = await within(making, { ...limits, what, waitingFor: 'memory' });
    } catch (error) {
      making.then((late) => late.close()).catch(() => {});
      throw error;
    }
    const said = this.#connection.send(encodeRing({ ...this.#stream.ring, silenceMs }));
    await within(said, { ...limits, what: 'the other end of the tunnel to take a message' });
    return this.#stream;
  }

  /** The peer's ring. @throws MigrationError PROTOCOL_ERROR, CONNECTION_REFUSED, TIMEOUT, or why the connection has ended */
  async ring(timeoutMs: number, signal: AbortSignal): Promise<Ring> {
    try {
      const what = 'the other end of the tunnel to take the stream';
      const message = await within(this.#connection.receive(), { phase: 'connect', timeoutMs, signal, what });
      if (message === null)
        throw new MigrationError(
          'CONNECTION_LOST',
          'connect',
          'the other end of the tunnel has ended the stream before it began',
        );
      return decodeRing(message);
    } catch (error) {
      throw await endReason(this.#connection.closed, toMigrationError(error, 'connect'), 'connect');
    }
  }

  /** Tells the peer that there is nothing to connect it with. */
  async refuse(signal: AbortSignal): Promise<void> {
    const said = { phase: 'close', timeoutMs: FAREWELL_MS, signal, what: 'the refusal to leave' } as const;
    await within(this.#connection.send(encodeRefused()), said).catch(() => {});
  }

  /** What has been said leaves; then the connection ends. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    await this.#stream?.close();
    const said = { phase: 'close', timeoutMs: FAREWELL_MS, what: 'the last message to leave' } as const;
    await within(this.#connection.disconnect(), said).catch(() => {});
    await this.#connection.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

interface Clear {
  readonly request: Uint8Array;
  readonly reply: Uint8Array;
  readonly hello: Hello;
}

async function secure(
  connection: NativeConnection,
  trust: Trust,
  { tls, softwareRnic }: Hello,
  clear: Omit<Clear, 'hello'>,
  limits: { readonly timeoutMs: number; readonly signal: AbortSignal },
): Promise<TunnelTls> {
  if (!tls) throw refusal('no-tls');
  if (!softwareRnic) throw refusal('not-protected');
  const { keys, peer, cipher } = await protect(new RecordPort(connection), trust, clear, limits);
  keys.wipe();
  return { cipher, peer: peerName(peer) };
}

/** What a passive end that says this means, to the active one. */
export function refusal(status: Exclude<Status, 'welcome'>): MigrationError {
  switch (status) {
    case 'busy':
      return new MigrationError(
        'REJECTED',
        'connect',
        'the other end of the tunnel has as many streams as it takes. Wait until some have ended',
      );
    case 'version':
      return new MigrationError(
        'VERSION_MISMATCH',
        'negotiate',
        `the other end of the tunnel does not speak version ${VERSION}: install the same release of rdma-migrate at both ends`,
      );
    case 'tls-required':
      return new MigrationError(
        'TLS_REQUIRED',
        'connect',
        'the other end of the tunnel lets only those in that have TLS credentials: give some (--tls-creds)',
      );
    case 'no-tls':
      return new MigrationError(
        'TLS_REQUIRED',
        'connect',
        'the other end of the tunnel has no TLS credentials: give it some (--tls-creds)',
      );
    case 'not-protected':
      return new MigrationError(
        'TLS_REQUIRED',
        'connect',
        'an RDMA device puts bytes on the wire in the clear, so a tunnel with TLS needs the software RNIC at both ends: --provider iwarp',
      );
  }
}

/** A rejection says why, or who it is that says it. */
function explained(error: MigrationError): MigrationError {
  const data = (error.cause as { privateData?: Uint8Array } | undefined)?.privateData;
  if (error.code !== 'REJECTED' || data === undefined) return error;
  try {
    const { status } = decodeHello(data);
    return status === 'welcome' ? error : refusal(status);
  } catch (why) {
    return toMigrationError(why, 'negotiate');
  }
}
