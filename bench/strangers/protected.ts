/** Strangers of a destination that asks for credentials: they ask for a protected connection, and then are silent, slow, mad, or somebody else. */
import { setTimeout as delay } from 'node:timers/promises';
import { privateData } from '../../test/support/raw-control.ts';
import { MPA_FLAG } from '../../test/support/raw-frames.ts';
import { RawPeer } from '../../test/support/raw-iwarp.ts';
import { clientHello, rawTls, tlsMessage } from '../../test/support/raw-tls.ts';
import type { Shown } from './credentials.ts';
import type { Kind } from './strangers.ts';

const SLOW_MS = 500;
const LONG_MS = 600_000;

/** Let in, it does that, and waits until it is sent away. */
const stranger =
  (does: (peer: RawPeer) => unknown): Kind =>
  async ({ port, from }) => {
    try {
      await using peer = await RawPeer.tcp(port, { from });
      const { flags } = await peer.request(privateData({ commit: true, tls: true }));
      if ((flags & MPA_FLAG.reject) !== 0) return;
      await does(peer);
      while ((await peer.next('the end', LONG_MS)).kind === 'send');
    } catch {
      // It was not let in, or not in its time.
    }
  };

async function slowly(peer: RawPeer, hello: Buffer): Promise<void> {
  for (const byte of hello) {
    peer.send(tlsMessage(Buffer.of(byte)));
    await delay(SLOW_MS);
  }
}

async function asSomebodyElse(peer: RawPeer, strange: Shown): Promise<void> {
  const socket = rawTls(peer, strange);
  await new Promise((resolve) => socket.once('close', resolve));
}

const hello = await clientHello();

/** silent, slow (a byte of its handshake now and then), garbage, credentials of another authority */
export const PROTECTED_KINDS = (strange: Shown): readonly Kind[] => [
  stranger(() => {}),
  stranger((peer) => slowly(peer, hello)),
  stranger((peer) => peer.send(tlsMessage(Buffer.alloc(300, 0xa5)))),
  stranger((peer) => asSomebodyElse(peer, strange)),
];
