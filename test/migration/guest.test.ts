/** How long a peer that nobody knows keeps its place, and when its handshake is computed. */
import { describe, expect, it } from 'vitest';
import { type Guest, guestOf, patienceMs, reach, type Stage } from '../../lib/migration/destination/guest.ts';
import { HandshakeTurns } from '../../lib/migration/destination/handshake-turns.ts';

const ALONE = { waiting: ['b'], atOnce: 16 };
const CROWD = { waiting: Array.from({ length: 20 }, () => 'a'), atOnce: 16 };
const patience = (stage: Stage, count: number, crowd = ALONE): number =>
  patienceMs(guestOf('a', stage), count, crowd);

describe('the time of a peer that others wait for', () => {
  it('is short while it has said nothing, and shorter in a crowd', () => {
    expect(patience('silent', 1)).toBe(3_000);
    expect(patience('silent', 1, CROWD)).toBe(250);
    expect(patience('greeting', 1, CROWD)).toBe(1_000);
  });

  it('is that of a handshake while that is under way, whatever crowd waits', () => {
    for (const stage of ['asking', 'proving'] as const)
      expect([patience(stage, 1), patience(stage, 1, CROWD)]).toEqual([5_000, 5_000]);
  });

  it('is less where its host keeps others out', () => {
    expect(patience('proving', 2)).toBe(5_000);
    expect(patience('proving', 3)).toBe(1_500);
    expect(patience('proving', 3, CROWD)).toBe(5_000); // they are its host's own
    expect(patience('silent', 8)).toBe(3_000);
    expect(patience('silent', 9)).toBe(250);
  });

  it('is long once it has proved who it is', () => {
    expect(patience('proved', 16, CROWD)).toBe(12_000);
  });
});

/** Handshakes that are waiting for their turn; `begun` has the names of those whose turn has come. */
function turns(mostOfOneHost: number) {
  const inside = new Set<Guest>();
  const all = new HandshakeTurns(inside, mostOfOneHost);
  const begun: string[] = [];
  return {
    begun,
    comes(name: string): Guest {
      const guest = guestOf(name.charAt(0), 'greeting');
      inside.add(guest);
      const turn = all.take(guest, guest.leave.signal);
      void turn.then(
        () => begun.push(name),
        () => begun.push(`not ${name}`),
      );
      return guest;
    },
    leaves(guest: Guest): void {
      inside.delete(guest);
      guest.leave.abort(new Error('gone'));
      all.goOn();
    },
  };
}

describe('a handshake begins', () => {
  it('at once where there is no other, then one after the other, those of a host with few inside first', async () => {
    const { begun, comes } = turns(10);
    const first = performance.now();
    for (const name of ['a1', 'a2', 'a3', 'b1']) comes(name);
    await expect.poll(() => begun).toEqual(['a1', 'b1', 'a2', 'a3']);
    expect(performance.now() - first).toBeGreaterThan(3 * 10 - 2);
  });

  it('when another of its host has ended, where too many of that host are under way', async () => {
    const { begun, comes, leaves } = turns(2);
    const [one] = ['a1', 'a2', 'a3', 'b1'].map(comes);
    await expect.poll(() => begun).toEqual(['a1', 'b1', 'a2']);
    leaves(one as Guest);
    await expect.poll(() => begun.at(-1)).toBe('a3');
  });

  it('never for one that has left', async () => {
    const { begun, comes, leaves } = turns(1);
    const [, two] = ['a1', 'a2', 'a3'].map(comes);
    leaves(two as Guest);
    await expect.poll(() => begun).toContain('not a2');
    expect(begun).not.toContain('a3');
  });

  it('and its time with it', () => {
    const guest = guestOf('a', 'greeting');
    guest.since = 0;
    reach(guest, 'asking');
    expect(guest.since).toBeGreaterThan(0);
    guest.since = 1;
    reach(guest, 'proving');
    expect([guest.stage, guest.since]).toEqual(['proving', 1]);
  });
});
