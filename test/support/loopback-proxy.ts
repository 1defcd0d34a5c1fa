/** What every proxy between two ends on 127.0.0.1 is: a server, the sockets of both ends, and their end. What passes, and how, is its own. */
import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

export abstract class LoopbackProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #target: number;
  readonly #sockets = new Set<Socket>();

  /** `target`: the destination's port. */
  protected constructor(target: number) {
    this.#target = target;
    this.#server = createServer({ allowHalfOpen: true }, (source) => this.came(this.#kept(source)));
  }

  /** A source has connected. Each end of it half-closes by itself, so `end` has to be passed on. */
  protected abstract came(source: Socket): void;

  protected dial(): Socket {
    return this.#kept(createConnection({ port: this.#target, host: '127.0.0.1', allowHalfOpen: true }));
  }

  protected async listen(): Promise<this> {
    this.#server.listen(0, '127.0.0.1');
    await once(this.#server, 'listening');
    return this;
  }

  get uri(): string {
    return `rdma:127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  #kept(socket: Socket): Socket {
    this.#sockets.add(socket);
    socket.setNoDelay(true);
    socket.on('close', () => this.#sockets.delete(socket));
    return socket;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
