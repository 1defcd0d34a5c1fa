/** Somebody in between the two ends: a TCP proxy that keeps every byte of every connection, and may pass on others. */
import type { Socket } from 'node:net';
import { LoopbackProxy } from './loopback-proxy.ts';
import { type Unit, UnitReader } from './wire-units.ts';

/** Which way bytes go. */
export type Towards = 'source' | 'destination';
export const WAYS: readonly Towards[] = ['destination', 'source'];

/** What is passed on instead of what came. `ending`: that way ends in order after it, or the whole connection is reset. */
export interface Passed {
  readonly bytes: Buffer;
  readonly ending?: 'end' | 'reset';
}

/** Sees the bytes of one way as they come. */
export type Passing = (bytes: Buffer) => Buffer | Passed;

/** Who stands in one way of a connection; connections count from 0, in the order in which they come. Undefined: nobody. */
export type Between = (connection: number, towards: Towards) => Passing | undefined;

/** Sees whole units, with their number in that way. A unit that is never whole is never passed on. */
export function byUnits(act: (unit: Unit, index: number) => Buffer | Passed): Passing {
  const reader = new UnitReader();
  let index = 0;
  return (bytes) => {
    const out: Buffer[] = [];
    for (const unit of reader.push(bytes)) {
      const passed = act(unit, index++);
      if (Buffer.isBuffer(passed)) {
        out.push(passed);
        continue;
      }
      out.push(passed.bytes);
      if (passed.ending) return { bytes: Buffer.concat(out), ending: passed.ending };
    }
    return Buffer.concat(out);
  };
}

/** What both ends have said on one connection, before anybody changed it, in the order in which it came. */
export class Conversation {
  readonly said: { readonly towards: Towards; readonly bytes: Buffer }[] = [];

  bytes(towards: Towards): Buffer {
    return Buffer.concat(this.said.filter((each) => each.towards === towards).map(({ bytes }) => bytes));
  }
}

/** All that was said, connection by connection, one way after the other. */
export const everything = (conversations: readonly Conversation[]): Buffer =>
  Buffer.concat(conversations.flatMap((each) => WAYS.map((way) => each.bytes(way))));

export class TcpProxy extends LoopbackProxy {
  readonly conversations: Conversation[] = [];
  readonly #between: Between;

  private constructor(target: number, between: Between) {
    super(target);
    this.#between = between;
  }

  /** `target`: the destination's port on 127.0.0.1. */
  static open(target: number, between: Between = () => undefined): Promise<TcpProxy> {
    return new TcpProxy(target, between).listen();
  }

  protected came(source: Socket): void {
    const number = this.conversations.length;
    const conversation = new Conversation();
    this.conversations.push(conversation);
    const destination = this.dial();
    this.#lead(source, destination, 'destination', number, conversation);
    this.#lead(destination, source, 'source', number, conversation);
  }

  #lead(from: Socket, to: Socket, towards: Towards, number: number, { said }: Conversation): void {
    const passing = this.#between(number, towards);
    from.on('data', (bytes: Buffer) => {
      said.push({ towards, bytes });
      const passed = passing?.(Buffer.from(bytes)) ?? bytes;
      const { bytes: out, ending } = Buffer.isBuffer(passed) ? { bytes: passed, ending: undefined } : passed;
      if (to.destroyed || to.writableEnded) return;
      if (out.length > 0 && !to.write(out)) from.pause();
      if (ending === 'end') to.end();
      if (ending === 'reset') for (const socket of [from, to]) socket.resetAndDestroy();
    });
    from.on('end', () => to.end());
    from.on('error', () => to.resetAndDestroy());
    to.on('drain', () => from.resume());
  }
}

/** The port that a URI of the software RNIC names. */
export const portOf = (uri: string): number => Number(uri.split(':').at(-1));
