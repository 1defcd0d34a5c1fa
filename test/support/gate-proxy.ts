/** Somebody in between who holds back what goes to the destination for as long as a test likes. */
import type { Socket } from 'node:net';
import { LoopbackProxy } from './loopback-proxy.ts';

export class GateProxy extends LoopbackProxy {
  readonly #ways: { readonly from: Socket; readonly to: Socket }[] = [];
  readonly #holdsFirst: boolean;

  /** `holdsFirst`: of the first connection only the request for it is passed on, until {@link release}. */
  static open(target: number, { holdsFirst = false } = {}): Promise<GateProxy> {
    return new GateProxy(target, holdsFirst).listen();
  }

  private constructor(target: number, holdsFirst: boolean) {
    super(target);
    this.#holdsFirst = holdsFirst;
  }

  protected came(source: Socket): void {
    const destination = this.dial();
    for (const socket of [source, destination]) socket.on('error', () => socket.destroy());
    destination.pipe(source);
    if (this.#holdsFirst && this.#ways.length === 0) {
      source.once('data', (request) => {
        destination.write(request);
        source.pause();
      });
    } else source.pipe(destination);
    this.#ways.push({ from: source, to: destination });
  }

  /** Of all connections. */
  hold(): void {
    for (const { from, to } of this.#ways) {
      from.unpipe(to);
      from.pause();
    }
  }

  release(): void {
    for (const { from, to } of this.#ways) from.pipe(to);
  }
}
