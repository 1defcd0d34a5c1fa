/** A TCP proxy between the two ends, which causes one fault at one byte. */
import { once } from 'node:events';
import { createConnection, createServer, type Server, type Socket } from 'node:net';
import type { End, Fault } from './case.ts';

type WireFault = Extract<Fault, { towards: End }>;

export interface Harm {
  readonly kind: WireFault['kind'];
  readonly towards: End;
  /** The byte of that direction at which it happens. */
  readonly at: number;
}

/** Bytes that are left out in one piece: part of a segment, or some. */
const LOST_BYTES = 1000;

export class HarmingProxy implements AsyncDisposable {
  /** Bytes that came for each end. */
  readonly passed: Record<End, number> = { source: 0, destination: 0 };
  /** When the fault was caused. */
  struck = false;
  onStrike = (): void => {};
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #harm: Harm | undefined;
  #stalled = false;

  private constructor(server: Server, target: number, harm: Harm | undefined) {
    this.#server = server;
    this.#harm = harm;
    server.on('connection', (source) => {
      const destination = createConnection({ port: target, host: '127.0.0.1', allowHalfOpen: true });
      this.#lead(source, destination, 'destination');
      this.#lead(destination, source, 'source');
    });
  }

  static async open(target: number, harm: Harm | undefined): Promise<HarmingProxy> {
    const server = createServer({ allowHalfOpen: true });
    const proxy = new HarmingProxy(server, target, harm);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    return proxy;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  #lead(from: Socket, to: Socket, towards: End): void {
    this.#sockets.add(from);
    from.setNoDelay(true);
    from.on('data', (bytes: Buffer) => this.#pass(from, to, towards, bytes));
    from.on('end', () => {
      if (!this.#stalled) to.end();
    });
    from.on('error', () => to.resetAndDestroy());
    to.on('drain', () => from.resume());
  }

  #pass(from: Socket, to: Socket, towards: End, bytes: Buffer): void {
    const before = this.passed[towards];
    this.passed[towards] += bytes.length;
    if (this.#stalled || to.destroyed || to.writableEnded) return;
    const harm = this.#harm;
    const at = harm && harm.towards === towards && !this.struck ? harm.at - before : -1;
    const rest = harm && at >= 0 && at < bytes.length ? this.#strike(harm, from, to, bytes, at) : bytes;
    if (rest.length > 0 && !to.write(rest)) from.pause();
  }

  /** The bytes that are passed on. */
  #strike({ kind }: Harm, from: Socket, to: Socket, bytes: Buffer, at: number): Buffer {
    this.struck = true;
    this.onStrike();
    switch (kind) {
      case 'cut':
        from.resetAndDestroy();
        to.resetAndDestroy();
        return Buffer.alloc(0);
      case 'half-close':
        to.end(bytes.subarray(0, at));
        return Buffer.alloc(0);
      case 'stall':
        this.#stalled = true;
        return bytes.subarray(0, at);
      case 'lost':
        return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + LOST_BYTES)]);
      case 'flipped':
        bytes.writeUInt8((bytes[at] as number) ^ 0x10, at);
        return bytes;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }
}
