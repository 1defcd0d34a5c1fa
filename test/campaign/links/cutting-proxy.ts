/** Who stands between the two ends of a migration and cuts their streams. */
import type { Socket } from 'node:net';
import { LoopbackProxy } from '../../support/loopback-proxy.ts';
import type { Cut } from './case.ts';

interface Stream {
  readonly source: Socket;
  readonly destination: Socket;
}

export class CuttingProxy extends LoopbackProxy {
  /** Cuts that have been made. */
  made = 0;
  /** Bytes that were passed on towards the destination. */
  passed = 0;
  readonly #cuts: readonly Cut[];
  readonly #streams = new Set<Stream>();
  /** What is not let through any more, though its ends have not heard of it. */
  readonly #silent = new Set<Stream>();
  #left: number;
  #closedUntil = 0;
  #begun = false;

  private constructor(target: number, cuts: readonly Cut[]) {
    super(target);
    this.#cuts = cuts;
    this.#left = cuts[0]?.after ?? Number.POSITIVE_INFINITY;
  }

  static open(target: number, cuts: readonly Cut[]): Promise<CuttingProxy> {
    return new CuttingProxy(target, cuts).listen();
  }

  /** From here on bytes count: a connection that was never made is none that breaks. */
  begin(): void {
    this.#begun = true;
  }

  protected came(source: Socket): void {
    if (performance.now() < this.#closedUntil) {
      source.on('error', () => {});
      source.destroy();
      return;
    }
    const stream = { source, destination: this.dial() };
    this.#streams.add(stream);
    this.#lead(stream, source, stream.destination);
    this.#lead(stream, stream.destination, source);
  }

  #lead(stream: Stream, from: Socket, to: Socket): void {
    from.on('data', (bytes: Buffer) => this.#pass(stream, from, to, bytes));
    from.on('end', () => {
      if (!this.#silent.has(stream)) to.end();
    });
    from.on('error', () => reset(to));
    from.on('close', () => this.#streams.delete(stream));
    to.on('drain', () => from.resume());
  }

  #pass(stream: Stream, from: Socket, to: Socket, bytes: Buffer): void {
    if (this.#silent.has(stream) || to.destroyed || to.writableEnded) return;
    const cut = this.#due(bytes.length);
    const part = cut ? bytes.subarray(0, this.#left) : bytes;
    this.#left -= bytes.length;
    if (from === stream.source) this.passed += part.length;
    if (part.length > 0 && !to.write(part)) from.pause();
    if (cut) this.#strike(cut, stream);
  }

  #due(size: number): Cut | undefined {
    if (!this.#begun) {
      this.#left += size;
      return undefined;
    }
    return size > this.#left ? this.#cuts[this.made] : undefined;
  }

  #strike(cut: Cut, hit: Stream): void {
    this.made += 1;
    this.#left = this.#cuts[this.made]?.after ?? Number.POSITIVE_INFINITY;
    this.#closedUntil = performance.now() + cut.outageMs;
    for (const stream of cut.all ? [...this.#streams] : [hit]) this.#cut(stream, cut.how);
  }

  #cut(stream: Stream, how: Cut['how']): void {
    if (how === 'silence') this.#silent.add(stream);
    for (const socket of [stream.source, stream.destination]) {
      if (how === 'reset') reset(socket);
      // What was passed on arrives first.
      if (how === 'end') socket.end();
      // The destination hears of a silent stream only by the new one.
      if (how === 'silence' && socket === stream.source) reset(socket);
    }
  }
}

/** Node keeps the descriptor of a socket that it cannot reset, for it is being shut down. */
function reset(socket: Socket): void {
  if (socket.writableEnded || socket.connecting) socket.destroy();
  else socket.resetAndDestroy();
}
