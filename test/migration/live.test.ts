import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { LiveOptions } from '../../lib/index.ts';
import { Connection } from '../../lib/transport/connection.ts';
import { attempt, expectRunsOn, failure, SLOW_BANDWIDTH, SLOW_LINK } from '../support/live-attempt.ts';
import { differences, LiveGuest, PAGE } from '../support/live-guest.ts';

afterEach(() => void vi.restoreAllMocks());

describe('a running guest', () => {
  it('arrives whole, page by page, and is stopped once', async () => {
    await using vm = await LiveGuest.create();
    await attempt(vm, { verify: true, live: { downtimeLimitMs: 50 } }, async ({ target, sent, received }) => {
      const [result] = await Promise.all([sent, received]);
      expect(vm.calls).toEqual(['pause']);
      expect(vm.isRunning).toBe(false);
      expect(await differences(vm, target)).toEqual([]);
      expect(result.outcome).toBe('committed');
      expect(result.ram['dirty-sync-count']).toBeGreaterThanOrEqual(2);
      expect(result.ram.remaining).toBe(0);
      expect([vm.tracker.started, vm.tracker.stopped]).toEqual([1, 1]);
    });
  });

  it('has its downtime told in parts, and every round', async () => {
    await using vm = await LiveGuest.create();
    await attempt(vm, {}, async ({ sent, received }) => {
      const [{ live }] = await Promise.all([sent, received]);
      const parts = Object.values(live?.['downtime-parts'] ?? {});
      expect(parts).toHaveLength(5);
      expect(parts.reduce((sum, part) => sum + part, 0)).toBeCloseTo(live?.downtime ?? -1, 3);
      const rounds = live?.rounds ?? [];
      expect(rounds.map(({ round }) => round)).toEqual(rounds.map((_, index) => index + 1));
      expect(rounds[0]?.['dirty-pages']).toBe(2048);
      for (const round of rounds) expect(round['dirty-pages']).toBe(round.normal + round.duplicate);
    });
  });

  it('is told of at the destination too: its rounds, and what each has to move', async () => {
    await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
    await attempt(vm, { maxBandwidth: 4n << 20n }, async ({ source, destination, sent, received }) => {
      const pending = new Map<number, number>();
      destination.on('event', (event) => {
        if (event.type === 'round' && event.state === 'begins' && event.pending !== undefined)
          pending.set(event.round, event.pending);
      });
      await expect.poll(() => pending.has(2), { timeout: 20_000 }).toBe(true);
      source.stopAndCopy();
      const [result] = await Promise.all([sent, received]);
      const rounds = result.live?.rounds ?? [];
      for (const round of [1, 2])
        expect(pending.get(round)).toBe((rounds[round - 1]?.['dirty-pages'] ?? 0) * PAGE);
      expect((await received).ram['dirty-sync-count']).toBe(rounds.length);
    });
  });

  const downtimeAtDisconnect = async (commit: 'auto' | 'off') => {
    await using vm = await LiveGuest.create();
    let before: number | undefined;
    let after: number | undefined;
    await attempt(vm, { commit }, async ({ source, destination, sent, received }) => {
      const { disconnect, disconnectAndWait } = Connection.prototype;
      const late = async <T>(connection: Connection, end: () => Promise<T>): Promise<T> => {
        const isSource = destination.uri.endsWith(connection.info.peerAddress);
        if (isSource) before = source.current.live?.downtime;
        const ended = await end();
        if (isSource) await delay(10);
        return ended;
      };
      vi.spyOn(Connection.prototype, 'disconnect').mockImplementation(function (this: Connection, ms) {
        return late(this, () => disconnect.call(this, ms));
      });
      vi.spyOn(Connection.prototype, 'disconnectAndWait').mockImplementation(function (this: Connection, to) {
        return late(this, () => disconnectAndWait.call(this, to));
      });
      const [{ live }] = await Promise.all([sent, received]);
      after = live?.downtime;
    });
    return { before: before as number, after: after as number };
  };

  it('is down until the destination has confirmed, however long the connection takes to end', async () => {
    const { before, after } = await downtimeAtDisconnect('auto');
    expect(after).toBe(before);
  });

  it('is down until the connection has ended, where a version 1 destination confirms nothing', async () => {
    const { before, after } = await downtimeAtDisconnect('off');
    expect(after).toBeGreaterThan(before);
  });

  it('is the destination’s once that has confirmed, whatever fails in letting go of its registrations', async () => {
    const deregister = Connection.prototype.deregister;
    const fail = async function (this: Connection, lkeys: Uint32Array): Promise<void> {
      await deregister.call(this, lkeys);
      throw new Error('no such region');
    };
    await using vm = await LiveGuest.create();
    await attempt(vm, {}, async ({ target, sent, received }) => {
      vi.spyOn(Connection.prototype, 'deregister').mockImplementation(fail);
      const [result] = await Promise.all([sent, received]);
      expect(Connection.prototype.deregister).toHaveBeenCalled();
      expect(result.outcome).toBe('committed');
      expect([vm.isRunning, target.committed]).toEqual([false, true]);
    });
  });

  it('arrives at a version 1 destination, which confirms nothing', async () => {
    await using vm = await LiveGuest.create();
    await attempt(vm, { commit: 'off' }, async ({ target, sent, received }) => {
      const [result] = await Promise.all([sent, received]);
      expect(result.outcome).toBe('unconfirmed');
      expect(vm.isRunning).toBe(false);
      expect(await differences(vm, target)).toEqual([]);
    });
  });

  it('is sent in rounds while it writes too much, and stopped when told to', async () => {
    await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
    await attempt(vm, {}, async ({ source, target, sent, received }) => {
      await expect.poll(() => source.current.ram['dirty-sync-count'], { timeout: 10_000 }).toBeGreaterThan(3);
      expect(source.current.live?.verdict).toBe('fixed-costs');
      source.stopAndCopy();
      const [{ live }] = await Promise.all([sent, received]);
      expect(live?.downtime).toBeGreaterThan(0);
      expect(await differences(vm, target)).toEqual([]);
    });
  });

  it('is stopped once more downtime is allowed', async () => {
    await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
    await attempt(vm, {}, async ({ source, target, sent, received }) => {
      await expect.poll(() => source.current.ram['dirty-sync-count'], { timeout: 10_000 }).toBeGreaterThan(2);
      source.setLive({ downtimeLimitMs: 60_000 });
      await Promise.all([sent, received]);
      expect(await differences(vm, target)).toEqual([]);
    });
  });

  it('is slowed down when it writes too fast, and not after a failure', async () => {
    await using vm = await LiveGuest.create({ pages: 4096, speed: 128 });
    const live: LiveOptions = { ...SLOW_LINK, timeLimitMs: 60_000 };
    await attempt(vm, { live, maxBandwidth: SLOW_BANDWIDTH }, async ({ source, sent, destination }) => {
      await expect.poll(() => vm.calls, { timeout: 20_000 }).toContain('throttle 30');
      expect(source.current.live?.['cpu-throttle-percentage']).toBeGreaterThanOrEqual(20);
      await destination.close();
      await failure(sent);
      expect(vm.calls.slice(-1)).toEqual(['throttle 0']);
      await expectRunsOn(vm);
    });
  });
});

describe('a guest that cannot be slowed down', () => {
  it('moves with auto-converge all the same, and that is told once', async () => {
    await using vm = await LiveGuest.create({ pages: 4096, speed: 128, canThrottle: false });
    const live: LiveOptions = SLOW_LINK;
    await attempt(vm, { live, maxBandwidth: SLOW_BANDWIDTH }, async ({ source, target, sent, received }) => {
      const notices: string[] = [];
      source.on('notice', (message) => notices.push(message));
      // Time for two steps of the throttle, each after two rounds in which it writes too much.
      await expect.poll(() => source.current.ram['dirty-sync-count'], { timeout: 20_000 }).toBeGreaterThan(5);
      source.setLive({ downtimeLimitMs: 60_000 });
      const [result] = await Promise.all([sent, received]);
      const told = notices.filter((notice) => notice.includes('auto-converge'));
      expect(told).toEqual(['auto-converge: this VMM offers no way to throttle its guest']);
      expect(result.live?.['cpu-throttle-percentage']).toBe(0);
      expect(vm.calls).toEqual(['pause']);
      expect(await differences(vm, target)).toEqual([]);
    });
  });
});

describe('max-bandwidth', () => {
  // A round is 256 KiB and takes 2 s; unlimited it takes milliseconds.
  const LIMIT = 128n << 10n;
  const live: LiveOptions = { autoConverge: true, downtimeLimitMs: 1_000 };

  it('does not keep a guest from being stopped, or throttled, that the link could stop at once', async () => {
    await using vm = await LiveGuest.create({ pages: 64, speed: 64 });
    await attempt(vm, { live, maxBandwidth: LIMIT }, async ({ target, sent, received }) => {
      const [result] = await Promise.all([sent, received]);
      expect(vm.calls).toEqual(['pause']);
      expect(result.ram['dirty-sync-count']).toBe(2);
      expect(result.live?.['switchover-bandwidth']).toBeGreaterThan(2 * Number(LIMIT));
      expect(await differences(vm, target)).toEqual([]);
    });
  });

  it('is what is reckoned with where that was said to be all there is', async () => {
    await using vm = await LiveGuest.create({ pages: 64, speed: 64 });
    const told = { ...live, availSwitchoverBandwidth: LIMIT };
    await attempt(vm, { live: told, maxBandwidth: LIMIT }, async ({ source, sent, received }) => {
      await expect.poll(() => vm.calls, { timeout: 20_000 }).toContain('throttle 20');
      expect(source.current.live?.['expected-downtime']).toBeGreaterThan(1_000);
      expect(source.current.live?.['switchover-bandwidth']).toBe(Number(LIMIT));
      source.setLive({ availSwitchoverBandwidth: 0n });
      source.setMaxBandwidth(0n);
      await Promise.all([sent, received]);
    });
  });
});

/** A whole pass of the test's guest takes minutes. */
const CRAWL = 32n << 10n;

describe('a guest that stands still is not kept waiting by max-bandwidth', () => {
  it('stopped in a pass: neither the rest of it nor the last one', async () => {
    await using vm = await LiveGuest.create();
    await attempt(vm, { maxBandwidth: CRAWL }, async ({ source, target, sent, received }) => {
      await expect.poll(() => source.current.ram['dirty-sync-count'], { timeout: 20_000 }).toBe(1);
      source.stopAndCopy();
      await Promise.all([sent, received]);
      expect(await differences(vm, target)).toEqual([]);
    });
  });

  it('stopped in a pass by the time limit', async () => {
    await using vm = await LiveGuest.create();
    const live: LiveOptions = { timeLimitMs: 300, onTimeLimit: 'stop-and-copy' };
    await attempt(vm, { maxBandwidth: CRAWL, live }, async ({ target, sent, received }) => {
      await Promise.all([sent, received]);
      expect(await differences(vm, target)).toEqual([]);
    });
  });

  it('stopped between two passes: the last one is the next', async () => {
    await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
    await attempt(vm, {}, async ({ source, target, sent, received }) => {
      const collect = vm.tracker.collect.bind(vm.tracker);
      vi.spyOn(vm.tracker, 'collect').mockImplementationOnce(async (bitmaps) => {
        await expect.poll(() => vm.tracker.written.size, { timeout: 20_000 }).toBeGreaterThan(1_000);
        source.setMaxBandwidth(CRAWL);
        source.stopAndCopy();
        return collect(bitmaps);
      });
      const [{ ram }] = await Promise.all([sent, received]);
      expect(ram['dirty-sync-count']).toBe(2);
      expect(await differences(vm, target)).toEqual([]);
    });
  });

  it('nor by a limit that is set then', async () => {
    await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
    await attempt(vm, {}, async ({ source, target, sent, received }) => {
      const write = Connection.prototype.write;
      vi.spyOn(Connection.prototype, 'write').mockImplementation(function (this: Connection, job) {
        if (!vm.isRunning) source.setMaxBandwidth(CRAWL);
        return write.call(this, job);
      });
      await expect.poll(() => source.current.ram['dirty-sync-count'], { timeout: 20_000 }).toBeGreaterThan(1);
      source.stopAndCopy();
      await Promise.all([sent, received]);
      expect(await differences(vm, target)).toEqual([]);
    });
  });
});

describe('a guest that does not converge', () => {
  it('runs on after the time limit, and the error has the numbers', async () => {
    await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
    await attempt(vm, { live: { timeLimitMs: 300 } }, async ({ sent, target, received }) => {
      const error = await failure(sent);
      expect(error.code).toBe('NOT_CONVERGED');
      expect(error.details).toMatchObject({ timeLimitMs: 300, downtimeLimitMs: 300 });
      expect(vm.calls).toEqual([]);
      await expectRunsOn(vm);
      await failure(received);
      expect([target.committed, target.aborted]).toEqual([false, true]);
    });
  });

  it('runs on when the limit falls into a long pass', async () => {
    await using vm = await LiveGuest.create();
    await attempt(vm, { maxBandwidth: 1n << 20n, live: { timeLimitMs: 200 } }, async ({ sent }) => {
      expect((await failure(sent)).code).toBe('NOT_CONVERGED');
      await expectRunsOn(vm);
    });
  });

  it('is stopped at the time limit where that was asked for, and arrives whole', async () => {
    await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
    const live: LiveOptions = { timeLimitMs: 300, onTimeLimit: 'stop-and-copy' };
    await attempt(vm, { live }, async ({ sent, received, target }) => {
      await Promise.all([sent, received]);
      expect(vm.calls).toEqual(['pause']);
      expect(await differences(vm, target)).toEqual([]);
    });
  });
});
