/**
 * Who comes to a destination and is no source, in a process of their own. Each one that is sent away comes again, until the parent goes.
 * `{ port }` begins; `{ there: true }` is the answer when each kind has come, and the refused are about to.
 */
import { connect, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { MPA_FLAG, mpaFrame } from '../../test/support/raw-frames.ts';

export interface Crowd {
  readonly port: number;
  /** Of each kind below but the refused. */
  readonly each: number;
  /** Whole requests of a version that is not spoken, all at once. */
  readonly refused: number;
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

type Kind = (socket: Socket) => Promise<unknown>;

const KINDS: Record<string, Kind> = {
  silent: async () => {},
  slow: async (socket) => {
    for (const byte of request(VERSION_1)) {
      if (socket.destroyed) return;
      socket.write(Buffer.of(byte));
      await delay(SLOW_MS);
    }
  },
  garbage: async (socket) => socket.write(Buffer.alloc(64, 0xa5)),
  'whole handshakes, then nothing': async (socket) => socket.write(request(VERSION_1)),
};

async function again(port: number, kind: Kind): Promise<never> {
  for (;;) {
    const socket = connect({ port, host: '127.0.0.1' });
    const end = ended(socket);
    socket.once('connect', () => void kind(socket));
    await end;
    await delay(AGAIN_MS * (0.5 + Math.random()));
  }
}

async function refused(port: number): Promise<void> {
  const socket = connect({ port, host: '127.0.0.1' });
  socket.once('connect', () => socket.end(request(VERSION_99)));
  await ended(socket);
}

process.once('message', async ({ port, each, refused: count }: Crowd) => {
  for (const kind of Object.values(KINDS)) for (let n = 0; n < each; n++) void again(port, kind);
  await delay(1_000);
  process.send?.({ there: true });
  for (let n = 0; n < count; n++) void refused(port);
});
process.on('disconnect', () => process.exit(0));
