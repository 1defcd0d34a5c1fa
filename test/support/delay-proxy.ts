/** A long way between the two ends: what one says reaches the other later. */
import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

export class DelayProxy implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  private constructor(target: number, oneWayMs: number) {
    this.#server = createServer((source) => {
      const destination = createConnection({ port: target, host: '127.0.0.1' });
      const later = (from: Socket, to: Socket): void => {
        this.#sockets.add(from);
        from.setNoDelay(true);
        from.on('error', () => to.destroy());
        from.on('data', (bytes: Buffer) => setTimeout(() => to.write(bytes), oneWayMs));
        from.on('end', () => setTimeout(() => to.end(), oneWayMs));
      };
      later(source, destination);
      later(destination, source);
    });
  }

  /** `target`: the destination's port on 127.0.0.1. */
  static async open(target: number, oneWayMs: number): Promise<DelayProxy> {
    const proxy = new DelayProxy(target, oneWayMs);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get uri(): string {
    return `rdma:127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
