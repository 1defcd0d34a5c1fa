/** A TCP proxy between the two ends that tells their connections apart: the first has the messages, the others are rails. */
import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';

interface Pair {
  readonly source: Socket;
  readonly destination: Socket;
}

export interface Treatment {
  /** Connections, in the order in which they come, that are reset at once. */
  readonly refuse?: readonly number[];
  /** Resets that connection when so many bytes have gone towards the destination on it. */
  readonly cut?: { readonly connection: number; readonly atByte: number };
}

export class RailProxy implements AsyncDisposable {
  connections = 0;
  /** The cut has been done. */
  struck = false;
  readonly #server: Server;
  readonly #pairs: Pair[] = [];
  readonly #treatment: Treatment;

  private constructor(target: number, treatment: Treatment) {
    this.#treatment = treatment;
    this.#server = createServer((source) => this.#came(source, target));
  }

  /** `target`: the destination's port on 127.0.0.1. */
  static async open(target: number, treatment: Treatment = {}): Promise<RailProxy> {
    const proxy = new RailProxy(target, treatment);
    proxy.#server.listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    return proxy;
  }

  get uri(): string {
    return `rdma:127.0.0.1:${(this.#server.address() as { port: number }).port}`;
  }

  #came(source: Socket, target: number): void {
    const number = this.connections++;
    source.on('error', () => {});
    if (this.#treatment.refuse?.includes(number)) {
      source.resetAndDestroy();
      return;
    }
    const destination = createConnection({ port: target, host: '127.0.0.1' });
    destination.on('error', () => source.resetAndDestroy());
    source.on('error', () => destination.resetAndDestroy());
    for (const socket of [source, destination]) socket.setNoDelay(true);
    const pair = { source, destination };
    this.#pairs.push(pair);
    this.#watch(pair, number);
    source.pipe(destination);
    destination.pipe(source);
  }

  #watch({ source, destination }: Pair, number: number): void {
    const { cut } = this.#treatment;
    if (cut?.connection !== number) return;
    let passed = 0;
    source.on('data', (bytes: Buffer) => {
      passed += bytes.length;
      if (passed < cut.atByte || this.struck) return;
      this.struck = true;
      source.resetAndDestroy();
      destination.resetAndDestroy();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { source, destination } of this.#pairs) {
      source.destroy();
      destination.destroy();
    }
    this.#server.close();
    await once(this.#server, 'close');
  }
}
