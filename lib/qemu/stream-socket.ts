/** A unix socket over which QEMU sends or receives its own migration stream. */
import { once } from 'node:events';
import { lchown, rm } from 'node:fs/promises';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import { MigrationError } from '../errors.ts';

/** Waits for QEMU to connect, once. Its owner closes it. */
export class StreamListener implements AsyncDisposable {
  readonly uri: string;
  readonly #path: string;
  readonly #server: Server;
  #socket: Socket | undefined;

  private constructor(path: string, server: Server) {
    this.uri = `unix:${path}`;
    this.#path = path;
    this.#server = server;
  }

  /** `owner`: who may connect besides root. */
  static async open(
    path: string,
    owner?: { readonly uid: number; readonly gid: number },
  ): Promise<StreamListener> {
    const server = createServer();
    server.maxConnections = 1;
    // The VM's device state comes through it. The socket is made in listen(), so nothing else is meanwhile.
    const umask = process.umask(0o077);
    try {
      server.listen(path);
    } finally {
      process.umask(umask);
    }
    await once(server, 'listening');
    const listener = new StreamListener(path, server);
    if (owner !== undefined) await lchown(path, owner.uid, owner.gid);
    return listener;
  }

  /** @throws MigrationError TIMEOUT */
  async accept(timeoutMs: number): Promise<Socket> {
    const signal = AbortSignal.timeout(timeoutMs);
    try {
      const [socket] = (await once(this.#server, 'connection', { signal })) as [Socket];
      this.#socket = socket;
      return socket;
    } catch (cause) {
      const message = `QEMU did not connect to ${this.#path} within ${timeoutMs} ms`;
      throw new MigrationError('TIMEOUT', 'device-state', message, { cause, details: { timeoutMs } });
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket?.destroy();
    if (this.#server.listening) {
      this.#server.close();
      await once(this.#server, 'close');
    }
    await rm(this.#path, { force: true });
  }
}

/** @throws MigrationError CONNECT_FAILED */
export async function connectTo(path: string): Promise<Socket> {
  const socket = createConnection({ path });
  try {
    await once(socket, 'connect');
    return socket;
  } catch (cause) {
    socket.destroy();
    const message = `QEMU does not listen at ${path}, where it was told to receive a migration stream`;
    throw new MigrationError('CONNECT_FAILED', 'commit', message, { cause });
  }
}
