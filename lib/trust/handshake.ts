/**
 * The TLS 1.3 handshake of two ends over any stream. Its records protect nothing but itself: what it leaves is who the peer is, and keys that only
 * both ends know.
 *
 *     client → server   ClientHello
 *     server → client   ServerHello .. Finished
 *     client → server   Certificate .. Finished
 *     server → client   session tickets, which nobody uses
 *     both              one byte each: ADMITTED or REFUSED
 *
 * A client is through with TLS's own handshake before the server has looked at its certificate, and the tickets come when both are: so each end says
 * in a byte how it has decided. Who has sent its byte and read the other's neither sends nor gets any further record.
 */
import type { X509Certificate } from 'node:crypto';
import type { Duplex } from 'node:stream';
import { connect, createServer, type TLSSocket } from 'node:tls';
import { MigrationError } from '../errors.ts';
import { unlessAborted, within } from '../transport/wait.ts';
import { AUTHORIZE_MS, authorizePeer, describePeer, type Policy } from './authorize.ts';
import type { Credentials, TlsPeer, TlsRole } from './credentials.ts';
import { handshakeFailed, isReset } from './failure.ts';
import { DEFAULT_PSK_NAME } from './psk.ts';
import { clientOptions, serverOptions } from './tls-options.ts';

const ADMITTED = 1;
const REFUSED = 0;

/** At a server to which strangers come: who keeps order among their handshakes. */
export interface HandshakeWatch {
  /** The first record of a peer has come. Nothing is computed for it before this has resolved. */
  readonly begins: () => Promise<void>;
  /** The peer has proved who it is. Whether it may take part is decided next. */
  readonly proved: () => void;
}

export interface Trust extends Policy {
  readonly role: TlsRole;
  readonly credentials: Credentials;
  /** At the client: whom the server's certificate must name. */
  readonly hostname: string;
  readonly pskName?: string;
  readonly watch?: HandshakeWatch;
}

/** What keys are asked for: RFC 8446, section 7.5. */
export interface Exporter {
  readonly label: string;
  readonly context: Buffer;
  readonly length: number;
}

export interface HandshakeLimits {
  readonly timeoutMs: number;
  readonly signal?: AbortSignal;
}

export interface Proven {
  readonly peer: TlsPeer;
  /** The same at both ends, and known to nobody else. */
  readonly keyingMaterial: Buffer;
  /** Such as `TLS_AES_256_GCM_SHA384`. */
  readonly cipher: string;
}

/**
 * Resolves when both ends have admitted each other. `stream` is used up: it is destroyed in any case, after its last record has been written. How
 * many bytes it passes on is for it to bound.
 * @throws MigrationError TLS_FAILED, NOT_AUTHORIZED (also when the peer refuses this end), CREDENTIALS_INVALID, TIMEOUT, CANCELLED, or what the stream
 *   was destroyed with
 */
export async function handshake(
  stream: Duplex,
  trust: Trust,
  exporter: Exporter,
  limits: HandshakeLimits,
): Promise<Proven> {
  const until = { ...limits, phase: 'negotiate' } as const;
  const begun = performance.now();
  let socket: TLSSocket | undefined;
  try {
    const secured = await within(Promise.race([secure(stream, trust), broken(stream)]), {
      ...until,
      what: 'the TLS handshake',
    });
    socket = secured.socket;
    const certificate = socket.getPeerX509Certificate(); // once: a client is not given it again
    requireProof(socket, trust.credentials, certificate);
    trust.watch?.proved();
    const peer = describePeer(certificate, secured.pskName);
    const left = Math.max(1, limits.timeoutMs - (performance.now() - begun));
    await admit(socket, peer, trust, { ...until, timeoutMs: left });
    return {
      peer,
      keyingMaterial: socket.exportKeyingMaterial(exporter.length, exporter.label, exporter.context),
      cipher: socket.getCipher().name,
    };
  } catch (error) {
    throw handshakeFailed(isReset(error) ? (stream.errored ?? error) : error);
  } finally {
    socket?.destroy();
    stream.destroy();
  }
}

/** Rejects when the stream ends. What came before its end, such as an alert, has been read by then. */
function broken(stream: Duplex): Promise<never> {
  const end = new Promise<never>((_, reject) => {
    if (stream.destroyed) reject(handshakeFailed(stream.errored ?? 'ECONNRESET'));
    for (const event of ['end', 'close', 'error'])
      stream.once(event, (error?: Error) =>
        setImmediate(() => reject(handshakeFailed(error ?? 'ECONNRESET'))),
      );
  });
  end.catch(() => {}); // it may come after the handshake
  return end;
}

interface Secured {
  readonly socket: TLSSocket;
  /** The key that the peer has proved to know. */
  readonly pskName?: string;
}

const secure = (stream: Duplex, trust: Trust): Promise<Secured> =>
  trust.role === 'client' ? asClient(stream, trust) : asServer(stream, trust);

async function asClient(stream: Duplex, trust: Trust): Promise<Secured> {
  const { credentials, pskName = DEFAULT_PSK_NAME } = trust;
  const socket = connect({ ...clientOptions(credentials, trust), socket: stream });
  return new Promise((resolve, reject) => {
    socket.once('secureConnect', () => resolve({ socket, ...(credentials.kind === 'psk' && { pskName }) }));
    socket.on('error', reject); // stays: one may come after it, and would end the process
  });
}

async function asServer(stream: Duplex, { credentials }: Trust): Promise<Secured> {
  let pskName: string | undefined;
  const named = (name: string): void => {
    pskName = name;
  };
  // Its own limit of time is never shorter than the one around it.
  const server = createServer({ ...serverOptions(credentials, named), handshakeTimeout: 2 ** 31 - 1 });
  return new Promise((resolve, reject) => {
    server.once('secureConnection', (socket) => {
      socket.on('error', () => {});
      resolve({ socket, ...(pskName !== undefined && { pskName }) });
    });
    // The error of a certificate that was not accepted is that the connection was reset; the socket knows why.
    server.on('tlsClientError', (error, socket) =>
      reject(handshakeFailed((socket.authorizationError as Error | string | undefined) ?? error)),
    );
    server.emit('connection', stream);
  });
}

/** node:tls has seen to this already; that it did is too important to be believed. TLS 1.3 calls an end that knows a key a session resumed. */
function requireProof(
  socket: TLSSocket,
  { kind }: Credentials,
  certificate: X509Certificate | undefined,
): void {
  const proved =
    kind === 'psk'
      ? socket.isSessionReused()
      : certificate !== undefined && socket.authorized && !socket.isSessionReused();
  if (!proved || socket.getProtocol() !== 'TLSv1.3')
    throw new MigrationError('TLS_FAILED', 'negotiate', 'the peer has not proved who it is');
}

/** Both decide, and tell each other. */
async function admit(
  socket: TLSSocket,
  peer: TlsPeer,
  trust: Trust,
  limits: HandshakeLimits & { readonly phase: 'negotiate' },
): Promise<void> {
  const theirs = verdict(socket);
  theirs.catch(() => {}); // it may fail while this end decides
  try {
    const decided = authorizePeer(peer, trust, Math.min(AUTHORIZE_MS, limits.timeoutMs));
    await unlessAborted(decided, limits.signal, limits.phase);
  } catch (error) {
    await within(say(socket, REFUSED), { ...limits, what: 'the refusal to be sent' }).catch(() => {});
    throw error;
  }
  const said = say(socket, ADMITTED);
  said.catch(() => {}); // a peer that refuses has gone, perhaps
  const told = theirs.then((admitted) => (admitted ? said.then(() => true) : false));
  if (await within(told, { ...limits, what: 'the peer to admit this end' })) return;
  throw new MigrationError(
    'NOT_AUTHORIZED',
    'negotiate',
    'the peer knows who this end is and does not let it take part: see its authz (--tls-authz), and its log',
  );
}

function verdict(socket: TLSSocket): Promise<boolean> {
  return new Promise((resolve, reject) => {
    socket.once('data', (bytes: Buffer) => {
      if (bytes.length === 1 && (bytes[0] === ADMITTED || bytes[0] === REFUSED))
        resolve(bytes[0] === ADMITTED);
      else reject(new MigrationError('PROTOCOL_ERROR', 'negotiate', 'the peer sent other than its verdict'));
    });
    socket.once('error', reject);
    for (const end of ['end', 'close']) socket.once(end, () => reject(handshakeFailed('ECONNRESET')));
  });
}

const say = (socket: TLSSocket, byte: number): Promise<void> =>
  new Promise((resolve, reject) => {
    socket.write(Buffer.of(byte), (error) => (error ? reject(error) : resolve()));
  });
