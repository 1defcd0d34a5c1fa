/**
 * Who comes to a destination and is no source, in a process of their own. Each one that is sent away comes again, until the parent goes.
 * `{ port }` begins; `{ there: true }` is the answer when each kind has come, and the refused are about to.
 */
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { MPA_FLAG, mpaFrame } from '../../test/support/raw-frames.ts';
import type { Shown } from './credentials.ts';
import { PROTECTED_KINDS } from './protected.ts';

export interface Crowd {
  readonly port: number;
  /** Of each kind below but the refused. */
  readonly each: number;
  /** Addresses that they come from. */
  readonly hosts: number;
  /** Whole requests of a version that is not spoken, all at once. */
  readonly refused: number;
  /** What some show to a destination that asks for credentials. Absent: it asks for none. */
  readonly strange?: Shown;
}

const AGAIN_MS = 200;
const SLOW_MS = 500;
const VERSION_1 = Buffer.from([0, 0, 0, 1, 0, 0, 0, 1]);
const VERSION_99 = Buffer.from([0, 0, 0, 99, 0, 0, 0, 0]);

const request = (privateData: Buffer): Buffer =>
  mpaFrame({ kind: 'request', flags: MPA_FLAG.enhanced, revision: 2, privateData });

const ended = (socket: Socket): Promise<void> =>
  new Promise((resolve) => {
    socket.on('error', () => {});
    socket.once('close', () => resolve());
    socket.resume();
  });

/** Where one comes from, and goes to. */
export interface Way {
  readonly port: number;
  readonly from: string;
}

/** Resolves when it has been sent away. */
export type Kind = (way: Way) => Promise<void>;

const plain =
  (does: (socket: Socket) => unknown): Kind =>
  async ({ port, from }) => {
    const socket = connect({ port, host: '127.0.0.1', localAddress: from });
    const end = ended(socket);
    socket.once('connect', () => void does(socket));
    await end;
  };

async function slowly(socket: Socket): Promise<void> {
  for (const byte of request(VERSION_1)) {
    if (socket.destroyed) return;
    socket.write(Buffer.of(byte));
    await delay(SLOW_MS);
  }
}

/** silent, slow, garbage, whole handshakes and then nothing */
const PLAIN_KINDS: readonly Kind[] = [
  plain(() => {}),
  plain(slowly),
  plain((socket) => socket.write(Buffer.alloc(64, 0xa5))),
  plain((socket) => socket.write(request(VERSION_1))),
];
const refuse = plain((socket) => socket.end(request(VERSION_99)));

async function again(way: Way, kind: Kind): Promise<never> {
  for (;;) {
    await kind(way);
    await delay(AGAIN_MS * (0.5 + Math.random()));
  }
}

process.once('message', async ({ port, each, hosts, refused, strange }: Crowd) => {
  let count = 0;
  const way = (): Way => ({ port, from: `127.0.1.${1 + (count++ % hosts)}` });
  const kinds = strange ? PROTECTED_KINDS(strange) : PLAIN_KINDS;
  for (let n = 0; n < each; n++) for (const kind of kinds) void again(way(), kind);
  await delay(1_000);
  process.send?.({ there: true });
  for (let n = 0; n < refused; n++) void refuse(way());
});
process.on('disconnect', () => process.exit(0));
