/** One address that floods a destination, while others come in earnest. */
import { describe, expect, it } from 'vitest';
import { honestMigration } from '../support/honest-source.ts';
import { privateData } from '../support/raw-control.ts';
import { RawPeer, withDeadline } from '../support/raw-iwarp.ts';
import { type Receiving, receiving } from '../support/receiving.ts';

const FLOODER = '127.0.0.2';
const OTHER = '127.0.0.3';
/** Places of the software RNIC for peers that are let in side by side. */
const AT_ONCE = 256;
/** A slow machine, and still far from what honest peers wait when they stand in a queue of silent ones. */
const SOON_MS = 8_000;

/** Neither sees to it that its peer stays connected. */
async function peerFrom(received: Receiving, from: string): Promise<RawPeer> {
  return RawPeer.tcp(received.port, { from });
}

async function silentSource(received: Receiving, from: string): Promise<RawPeer> {
  const peer = await peerFrom(received, from);
  await peer.request(privateData({ commit: true }));
  return peer;
}

async function leave(peers: readonly RawPeer[]): Promise<void> {
  for (const peer of peers) await peer[Symbol.asyncDispose]();
}

/** Connects again and again, with a whole request each time, until it is told to stop. */
function flood(received: Receiving, from: string): { stop(): Promise<number> } {
  let stopped = false;
  let count = 0;
  const worker = async (): Promise<void> => {
    for (; !stopped; count++) {
      const peer = await peerFrom(received, from).catch(() => undefined);
      peer?.request(privateData({ commit: true })).catch(() => undefined);
      await new Promise((resolve) => setTimeout(resolve, 2));
      if (count % 4 === 0) await peer?.[Symbol.asyncDispose]();
    }
  };
  const workers = Promise.all([1, 2, 3, 4].map(worker));
  return {
    async stop() {
      stopped = true;
      await workers;
      return count;
    },
  };
}

describe('a source from another address is served while one address', () => {
  it('has taken every place, and more of it wait', async () => {
    await using received = await receiving({ responseTimeoutMs: 60_000, connectTimeoutMs: 60_000 });
    const peers: RawPeer[] = [];
    while (peers.length < AT_ONCE) peers.push(await silentSource(received, FLOODER));
    for (let more = 0; more < 30; more++) {
      const peer = await peerFrom(received, FLOODER);
      peer.request(privateData({ commit: true })).catch(() => undefined);
      peers.push(peer);
    }
    await withDeadline(honestMigration(received), 'the migration', SOON_MS);
    await leave(peers);
  });

  it('connects again and again', async () => {
    await using received = await receiving({ responseTimeoutMs: 60_000, connectTimeoutMs: 60_000 });
    const floods = [flood(received, FLOODER), flood(received, OTHER)];
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    await withDeadline(honestMigration(received), 'the migration', SOON_MS);
    const counts = await Promise.all(floods.map((each) => each.stop()));
    for (const count of counts) expect(count).toBeGreaterThan(100);
  });

  it('comes more often than is allowed: that one is closed unread, and named', async () => {
    await using received = await receiving({ connectionsPerSecond: 2 });
    const peers: RawPeer[] = [];
    for (let count = 0; count < 60; count++) peers.push(await peerFrom(received, FLOODER));
    await Promise.all(peers.slice(-10).map((peer) => peer.untilEnd()));
    expect(received.notices[0]).toMatch(/^turned away: 127\.0\.0\.2:\d+ spoke .*connectionsPerSecond/);
    await honestMigration(received);
    await leave(peers);
  });
});

it('a peer that is slow with its request keeps its place, however many another address begins', async () => {
  await using received = await receiving({ connectTimeoutMs: 60_000 });
  await using slow = await peerFrom(received, OTHER);
  const peers: RawPeer[] = [];
  for (let count = 0; count < 200; count++) peers.push(await peerFrom(received, FLOODER));
  await peers[0]?.untilEnd();
  const reply = await slow.request(privateData({ commit: true }));
  expect(reply.privateData.length).toBeGreaterThan(0);
  await leave(peers);
});
