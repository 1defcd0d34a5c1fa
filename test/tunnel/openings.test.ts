/** Strangers at the end of a tunnel that anybody may dial: what they take, and what of it is a host's. */
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { encodeHello } from '../../lib/tunnel/hello.ts';
import { OPENINGS_OF_ONE_HOST, Openings, WAITING } from '../../lib/tunnel/openings.ts';
import { MPA_FLAG } from '../support/raw-frames.ts';
import { RawPeer } from '../support/raw-iwarp.ts';
import { Ends } from './ends.ts';

/** Guests that stay until they are told to go. */
function house() {
  const inside = new Map<string, () => void>();
  const begun: string[] = [];
  const openings = new Openings<string>((guest) => {
    begun.push(guest);
    return new Promise((leave) => void inside.set(guest, leave));
  });
  const go = async (guest: string): Promise<void> => {
    inside.get(guest)?.();
    await delay(0);
  };
  return { openings, begun, go };
}

describe('places for those who open a stream', () => {
  it('are a few for each host, and whoever comes first is next', async () => {
    const { openings, begun, go } = house();
    for (let i = 0; i < OPENINGS_OF_ONE_HOST + 3; i++) openings.come('a', `a${i}`);
    openings.come('b', 'b0');
    expect(begun).toEqual(['a0', 'a1', 'a2', 'a3', 'b0']);
    await go('b0');
    expect(begun).toHaveLength(5);
    await go('a2');
    await go('a0');
    expect(begun.slice(5)).toEqual(['a4', 'a5']);
    expect(openings.clear()).toEqual(['a6']);
    await go('a1');
    expect(begun).toHaveLength(7);
  });

  it('are few in all, and two hosts that come often leave room for a third', () => {
    const { openings, begun } = house();
    const gone: (string | undefined)[] = [];
    for (let i = 0; i < 100; i++)
      for (const host of ['a', 'b']) gone.push(openings.come(host, `${host}${i}`));
    openings.come('c', 'c0');
    expect(begun).toHaveLength(2 * OPENINGS_OF_ONE_HOST + 1);
    expect(begun).toContain('c0');
    for (let i = 1; i <= OPENINGS_OF_ONE_HOST; i++) gone.push(openings.come('c', `c${i}`));
    // Whoever goes is of those that come often.
    const leaving = gone.filter((guest) => guest !== undefined);
    expect(leaving.length).toBe(200 - 2 * OPENINGS_OF_ONE_HOST - WAITING.fair + 1);
    expect(leaving.some((guest) => guest.startsWith('c'))).toBe(false);
    expect(openings.clear()).toContain(`c${OPENINGS_OF_ONE_HOST}`);
  });
});

const hello = encodeHello({
  version: 1,
  status: 'welcome',
  softwareRnic: true,
  tls: false,
  unchecked: false,
});

describe('peers that say nothing after their hello', () => {
  it('have no more than a few places, and whoever waits gets the place of one that goes', async () => {
    await using ends = await Ends.open();
    const port = Number(/\d+$/.exec(ends.destination.uri)?.[0]);
    const silent = [];
    for (let i = 0; i < OPENINGS_OF_ONE_HOST; i++) {
      const peer = await RawPeer.tcp(port);
      silent.push(peer);
      expect((await peer.request(hello)).flags & MPA_FLAG.reject).toBe(0);
    }
    await using waiting = await RawPeer.tcp(port);
    let answered = false;
    const answer = waiting.request(hello).finally(() => {
      answered = true;
    });
    await delay(150);
    expect(answered).toBe(false);
    await silent[0]?.[Symbol.asyncDispose]();
    expect((await answer).flags & MPA_FLAG.reject).toBe(0);
    for (const peer of silent) await peer[Symbol.asyncDispose]();
  });
});
