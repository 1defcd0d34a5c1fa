/** Local ends of streams: sockets that are listened for or dialled, and stdin with stdout. Their bytes are moved by native code. */
import { lstat, unlink } from 'node:fs/promises';
import { createServer, connect as netConnect, type Server, Socket } from 'node:net';
import { type ErrorCode, MigrationError } from '../errors.ts';
import { within } from '../transport/wait.ts';
import { formatLocalAddress, type LocalAddress } from './address.ts';

type SocketAddress = Exclude<LocalAddress, { kind: 'stdio' }>;

/** Who waits at a busy listener. */
const BACKLOG = 128;

/** Descriptors of one end, until {@link LocalEnd.done}: whoever moves the bytes copies them. */
export interface LocalEnd {
  readonly in: number;
  readonly out: number;
  readonly stdio: boolean;
  /** They have been copied: these are not needed any more. */
  done(): void;
  /** Nobody will move its bytes: who is connected sees a reset. */
  refuse(): void;
}

export const STDIO: LocalEnd = { in: 0, out: 1, stdio: true, done: () => {}, refuse: () => {} };

/** Of a socket that reads nothing by itself. */
function endOf(socket: Socket): LocalEnd {
  socket.on('error', () => {}); // it is noticed where its bytes are moved
  return {
    get in() {
      return descriptorOf(socket);
    },
    get out() {
      return descriptorOf(socket);
    },
    stdio: false,
    done: () => socket.destroy(),
    refuse: () => void (socket.remoteAddress === undefined ? socket.destroy() : socket.resetAndDestroy()),
  };
}

/** At the moment when it is copied: a socket that has been closed has none. */
function descriptorOf(socket: Socket): number {
  const fd = (socket as unknown as { _handle?: { fd?: number } })._handle?.fd;
  if (fd !== undefined && fd >= 0) return fd;
  throw new MigrationError('CONNECTION_LOST', 'connect', 'the local connection has been closed already');
}

/** @throws MigrationError CONNECTION_REFUSED, CONNECT_FAILED, ADDRESS_NOT_FOUND, PERMISSION_DENIED, TIMEOUT, CANCELLED */
export async function connectLocal(
  address: SocketAddress,
  timeoutMs: number,
  signal: AbortSignal,
): Promise<LocalEnd> {
  const socket = new Socket();
  socket.pause(); // else Node reads
  const connected = new Promise<void>((resolve, reject) => {
    socket.once('error', (error) => reject(localError(error, address, 'connect')));
    socket.connect(
      address.kind === 'unix' ? { path: address.path } : { host: address.host, port: address.port },
      resolve,
    );
  });
  try {
    const what = `${formatLocalAddress(address)} to take the connection`;
    await within(connected, { phase: 'connect', timeoutMs, signal, what });
    socket.setNoDelay(true);
    return endOf(socket);
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** A listening socket; a unix socket's file goes with it. */
export class LocalListener implements AsyncDisposable {
  readonly #server: Server;
  readonly #asked: SocketAddress;

  private constructor(server: Server, asked: SocketAddress) {
    this.#server = server;
    this.#asked = asked;
  }

  /** @throws MigrationError ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED */
  static async open(address: SocketAddress, onEnd: (end: LocalEnd) => void): Promise<LocalListener> {
    if (address.kind === 'unix') await removeStale(address.path);
    const server = createServer({ pauseOnConnect: true, allowHalfOpen: true, noDelay: true }, (socket) => {
      onEnd(endOf(socket));
    });
    await new Promise<void>((resolve, reject) => {
      server.once('error', (error) => reject(localError(error, address, 'listen')));
      server.listen(
        { backlog: BACKLOG, ...(address.kind === 'unix' ? { path: address.path } : address) },
        resolve,
      );
    });
    server.on('error', () => {}); // of one accept(): the next may succeed
    return new LocalListener(server, address);
  }

  /** With the port that was bound. */
  get address(): string {
    const bound = this.#server.address();
    if (this.#asked.kind === 'unix' || bound === null || typeof bound === 'string')
      return formatLocalAddress(this.#asked);
    return formatLocalAddress({ ...this.#asked, port: bound.port });
  }

  /** Nobody comes any more; who has come stays. Idempotent. */
  async close(): Promise<void> {
    if (this.#server.listening) this.#server.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** The socket of a process that was killed is in nobody's use, and in the way. */
async function removeStale(path: string): Promise<void> {
  const found = await lstat(path).catch(() => undefined);
  if (!found?.isSocket()) return;
  const refused = await new Promise<boolean>((resolve) => {
    const socket = netConnect({ path }, () => {
      socket.destroy();
      resolve(false);
    });
    socket.once('error', ({ code }: NodeJS.ErrnoException) => resolve(code === 'ECONNREFUSED'));
  });
  if (refused) await unlink(path).catch(() => {});
}

const CODES: Readonly<Record<string, ErrorCode>> = {
  EADDRINUSE: 'ADDRESS_IN_USE',
  EADDRNOTAVAIL: 'ADDRESS_NOT_FOUND',
  ENOTFOUND: 'ADDRESS_NOT_FOUND',
  EAI_AGAIN: 'ADDRESS_NOT_FOUND',
  EACCES: 'PERMISSION_DENIED',
  EPERM: 'PERMISSION_DENIED',
  ECONNREFUSED: 'CONNECTION_REFUSED',
  ENOENT: 'CONNECTION_REFUSED',
};

function localError(
  error: NodeJS.ErrnoException,
  address: SocketAddress,
  phase: 'listen' | 'connect',
): MigrationError {
  const missing = phase === 'listen' && error.code === 'ENOENT';
  const known = missing ? undefined : CODES[error.code ?? ''];
  const code = known ?? (phase === 'listen' ? 'LISTEN_FAILED' : 'CONNECT_FAILED');
  const doing = phase === 'listen' ? 'cannot listen at' : 'cannot connect to';
  const remedy =
    phase === 'listen'
      ? 'Check the address, and the folder of a unix socket'
      : 'Check that somebody listens there';
  return new MigrationError(
    code,
    phase,
    `${doing} ${formatLocalAddress(address)}: ${error.message}. ${remedy}`,
    {
      cause: error,
    },
  );
}
