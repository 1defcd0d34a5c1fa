import { once } from 'node:events';
import { createServer, type Server } from 'node:net';
import { RawPeer, withDeadline } from './raw-iwarp.ts';

/** Waits for peers on a free port of 127.0.0.1. */
export class RawListener implements AsyncDisposable {
  readonly #server: Server;
  readonly #waiting: RawPeer[] = [];
  readonly #all: RawPeer[] = [];
  #wake: (() => void) | undefined;

  private constructor(server: Server) {
    this.#server = server;
    server.on('connection', (socket) => {
      const peer = new RawPeer(socket);
      this.#all.push(peer);
      this.#waiting.push(peer);
      this.#wake?.();
    });
  }

  static async open(): Promise<RawListener> {
    const server = createServer();
    const listener = new RawListener(server);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return listener;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  get uri(): string {
    return `rdma:127.0.0.1:${this.port}`;
  }

  async accept(): Promise<RawPeer> {
    if (this.#waiting.length === 0) {
      await withDeadline(new Promise<void>((resolve) => (this.#wake = resolve)), 'a TCP connection');
    }
    return this.#waiting.shift() as RawPeer;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of this.#all) await peer[Symbol.asyncDispose]();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
