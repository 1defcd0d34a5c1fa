/** A TCP proxy between the two ends that tells their connections apart: the first has the messages, the others are rails. */
import type { Socket } from 'node:net';
import { LoopbackProxy } from './loopback-proxy.ts';

/** Which way bytes go. */
export type Towards = 'source' | 'destination';

/** One direction of a connection. Held, it takes bytes and passes none on. */
class Flow {
  #held = false;
  readonly #kept: Buffer[] = [];
  readonly #from: Socket;
  readonly #to: Socket;

  /** What `watch` changes of the bytes is changed. */
  constructor(from: Socket, to: Socket, watch: (bytes: Buffer) => void) {
    this.#from = from;
    this.#to = to;
    from.on('data', (bytes: Buffer) => {
      watch(bytes);
      this.#kept.push(bytes);
      this.#pass();
    });
    from.on('end', () => to.end());
    to.on('drain', () => from.resume());
  }

  hold(held: boolean): void {
    this.#held = held;
    this.#pass();
  }

  #pass(): void {
    if (this.#held || this.#kept.length === 0) return;
    const whole = this.#kept.length === 1 ? (this.#kept[0] as Buffer) : Buffer.concat(this.#kept);
    this.#kept.length = 0;
    if (!this.#to.write(whole)) this.#from.pause();
  }
}

interface Pair extends Record<Towards, Socket> {
  readonly flows: Readonly<Record<Towards, Flow>>;
}

export interface Treatment {
  /** Connections, in the order in which they come, that are reset at once. */
  readonly refuse?: readonly number[];
  /** Connections that are taken and hear nothing. */
  readonly silent?: readonly number[];
  /** Holds what goes towards the destination on that connection when so many bytes have gone. */
  readonly hold?: { readonly connection: number; readonly atByte: number };
  /** Resets that connection when so many bytes have gone towards the destination on it. */
  readonly cut?: { readonly connection: number; readonly atByte: number };
}

export class RailProxy extends LoopbackProxy {
  connections = 0;
  /** Told of what the source says, before it is passed on; may change it. */
  onData: (connection: number, bytes: Buffer) => void = () => {};
  /** The cut has been done, or the hold. */
  struck = false;
  readonly #pairs = new Map<number, Pair>();
  readonly #passed = new Map<number, number>();
  readonly #treatment: Treatment;

  private constructor(target: number, treatment: Treatment) {
    super(target);
    this.#treatment = treatment;
  }

  /** `target`: the destination's port on 127.0.0.1. */
  static open(target: number, treatment: Treatment = {}): Promise<RailProxy> {
    return new RailProxy(target, treatment).listen();
  }

  protected came(source: Socket): void {
    const number = this.connections++;
    source.on('error', () => {});
    if (this.#treatment.refuse?.includes(number)) {
      source.resetAndDestroy();
      return;
    }
    const destination = this.dial();
    destination.on('error', () => source.resetAndDestroy());
    source.on('error', () => destination.resetAndDestroy());
    const flows = {
      source: new Flow(destination, source, () => {}),
      destination: new Flow(source, destination, (bytes) => this.#watch(number, bytes)),
    };
    this.#pairs.set(number, { source, destination, flows });
    if (this.#treatment.silent?.includes(number)) this.hold(number, 'source');
  }

  /** What goes that way on a connection is kept here, or passed on again. */
  hold(connection: number, towards: Towards, held = true): void {
    this.#pairs.get(connection)?.flows[towards].hold(held);
  }

  reset(connection: number): void {
    const pair = this.#pairs.get(connection);
    pair?.source.resetAndDestroy();
    pair?.destination.resetAndDestroy();
  }

  #watch(connection: number, bytes: Buffer): void {
    this.onData(connection, bytes);
    const passed = (this.#passed.get(connection) ?? 0) + bytes.length;
    this.#passed.set(connection, passed);
    const { cut, hold } = this.#treatment;
    const due = [cut, hold].find((at) => at?.connection === connection && passed >= at.atByte);
    if (due === undefined || this.struck) return;
    this.struck = true;
    if (due === cut) this.reset(connection);
    else this.hold(connection, 'destination');
  }
}
