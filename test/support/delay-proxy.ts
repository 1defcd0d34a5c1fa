/** A long way between the two ends: what one says reaches the other later. */
import type { Socket } from 'node:net';
import { LoopbackProxy } from './loopback-proxy.ts';

export class DelayProxy extends LoopbackProxy {
  readonly #oneWayMs: number;

  private constructor(target: number, oneWayMs: number) {
    super(target);
    this.#oneWayMs = oneWayMs;
  }

  /** `target`: the destination's port on 127.0.0.1. */
  static open(target: number, oneWayMs: number): Promise<DelayProxy> {
    return new DelayProxy(target, oneWayMs).listen();
  }

  protected came(source: Socket): void {
    const destination = this.dial();
    this.#lead(source, destination);
    this.#lead(destination, source);
  }

  #lead(from: Socket, to: Socket): void {
    from.on('error', () => to.destroy());
    from.on('data', (bytes: Buffer) => setTimeout(() => to.write(bytes), this.#oneWayMs));
    from.on('end', () => setTimeout(() => to.end(), this.#oneWayMs));
  }
}
