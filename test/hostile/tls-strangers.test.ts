/** A destination with credentials, and those who come without, or do not go on: they keep nobody out, and are sent away. */
import { describe, expect, it } from 'vitest';
import { credentialSets, pem } from '../support/credentials.ts';
import { DelayProxy } from '../support/delay-proxy.ts';
import { honestTlsMigration } from '../support/honest-tls.ts';
import { PATIENCE_MS } from '../support/patience.ts';
import { privateData } from '../support/raw-control.ts';
import { MPA_FLAG } from '../support/raw-frames.ts';
import { RawPeer } from '../support/raw-iwarp.ts';
import { clientHello, rawTls, tlsMessage } from '../support/raw-tls.ts';
import { type Receiving, receiving } from '../support/receiving.ts';

const sets = credentialSets();
/** Peers that the software RNIC lets in side by side, and some that wait. */
const CROWD = 256 + 20;
const FLOODER = '127.0.0.2';
/** A slow machine, and still far from what a source waits that stands in a queue of silent ones. */
const SOON_MS = 8_000;

const protectedEnd = (options = {}): Promise<Receiving> =>
  receiving({ tls: { creds: sets.good }, ...options }, { external: false });

/** A peer that has asked for a protected connection; when it has been let in it does as it likes. */
async function stranger(
  received: Receiving,
  does: (peer: RawPeer) => void = () => {},
  from = FLOODER,
): Promise<RawPeer> {
  const peer = await RawPeer.tcp(received.port, { from });
  const asked = peer.request(privateData({ commit: true, tls: true }));
  void asked.then(
    ({ flags }) => (flags & MPA_FLAG.reject) === 0 && does(peer),
    () => {},
  );
  return peer;
}

async function crowd(received: Receiving, does?: (peer: RawPeer) => void, from?: string): Promise<RawPeer[]> {
  const peers: RawPeer[] = [];
  while (peers.length < CROWD) peers.push(await stranger(received, does, from));
  return peers;
}

async function leave(peers: readonly RawPeer[]): Promise<void> {
  for (const peer of peers) await peer[Symbol.asyncDispose]();
}

const hello = await clientHello();

/** One byte of its first message after the other. */
function trickle(peer: RawPeer): void {
  let at = 0;
  const timer = setInterval(() => {
    if (at < hello.length) peer.send(tlsMessage(hello.subarray(at, ++at)));
  }, 100);
  void peer.untilEnd().then(
    () => clearInterval(timer),
    () => clearInterval(timer),
  );
}

const wrong = {
  cert: pem(sets.otherCa, 'client-cert.pem'),
  key: pem(sets.otherCa, 'client-key.pem'),
};

const KINDS: readonly { name: string; does: (peer: RawPeer) => void }[] = [
  { name: 'say nothing', does: () => {} },
  { name: 'begin a handshake and do not go on', does: (peer) => peer.send(tlsMessage(hello)) },
  { name: 'send a byte of their handshake now and then', does: trickle },
  { name: 'send garbage', does: (peer) => peer.send(tlsMessage(Buffer.alloc(300, 0xa5))) },
  { name: 'have credentials of somebody else', does: (peer) => void rawTls(peer, wrong) },
];

describe('a source with credentials is served while a crowd has come of peers that', () => {
  it.each(KINDS)('$name', async ({ does }) => {
    await using received = await protectedEnd({ responseTimeoutMs: 60_000, connectTimeoutMs: 60_000 });
    const peers = await crowd(received, does);
    await honestTlsMigration(received, sets.good, received.destination.uri, SOON_MS);
    await leave(peers);
  });
});

it('a source that is far away is served, though a crowd at its own address waits for places', async () => {
  await using received = await protectedEnd({ responseTimeoutMs: 60_000, connectTimeoutMs: 60_000 });
  const peers = await crowd(received, () => {}, '127.0.0.1');
  await using far = await DelayProxy.open(received.port, 150);
  await honestTlsMigration(received, sets.good, far.uri, 30_000);
  await leave(peers);
});

describe('a destination with credentials sends a peer away, says why, and takes the next, when it', () => {
  const CASES: readonly { name: string; does: (peer: RawPeer) => void; says: RegExp }[] = [
    { name: 'says nothing', does: () => {}, says: /it has not shown who it is within 2 s/ },
    {
      name: 'begins a handshake and does not go on',
      does: (peer) => peer.send(tlsMessage(hello)),
      says: /it has not shown who it is within 2 s/,
    },
    {
      name: 'sends a byte of its handshake now and then',
      does: trickle,
      says: /it has not shown who it is within 2 s/,
    },
    { name: 'sends garbage', does: (peer) => peer.send(tlsMessage(Buffer.alloc(300, 0xa5))), says: /TLS/ },
    {
      name: 'sends more messages than a handshake has',
      does: (peer) => {
        for (const byte of hello.subarray(0, 40)) peer.send(tlsMessage(Buffer.of(byte)));
      },
      says: /TLS handshake/,
    },
    {
      name: 'sends more bytes than a handshake has',
      does: (peer) => peer.send(tlsMessage(Buffer.alloc(200 << 10, 22))),
      says: /TLS handshake/,
    },
    {
      name: 'has credentials of somebody else',
      does: (peer) => void rawTls(peer, wrong),
      says: /was not signed by the authority in ca-cert\.pem of this end/,
    },
    { name: 'has none', does: (peer) => void rawTls(peer, {}), says: /has shown no certificate/ },
  ];

  it.concurrent.each(CASES)('$name', async ({ does, says }) => {
    await using received = await protectedEnd({ connectTimeoutMs: PATIENCE_MS });
    await using peer = await stranger(received, does);
    await expect.poll(() => received.notices, { timeout: 8_000 }).toEqual([expect.stringMatching(says)]);
    await honestTlsMigration(received, sets.good);
    await leave([peer]);
  });
});
