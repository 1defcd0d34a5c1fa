/** What becomes of a running guest whose migration fails. */
import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { describe, expect, it, vi } from 'vitest';
import type { LiveOptions, MigrationError } from '../../lib/index.ts';
import {
  type Attempt,
  attempt,
  deferred,
  expectRunsOn,
  failure,
  SLOW_BANDWIDTH,
  SLOW_LINK,
} from '../support/live-attempt.ts';
import { LiveGuest } from '../support/live-guest.ts';

describe('after a failure the guest runs on', () => {
  const cancelAt = (name: string, when: (attempt: Attempt) => Promise<void>) =>
    it(`cancelled ${name}`, async () => {
      await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
      const cancel = new AbortController();
      await attempt(vm, { signal: cancel.signal }, async (running) => {
        await when(running);
        cancel.abort();
        expect((await failure(running.sent)).code).toBe('CANCELLED');
        await expectRunsOn(vm);
        // It may not have connected yet.
        await running.destination.close();
        await failure(running.received);
        expect(running.target.committed).toBe(false);
      });
    });
  cancelAt('at once', async () => {});
  cancelAt('in the first pass', ({ source }) =>
    expect
      .poll(() => source.current.ram['dirty-sync-count'], { interval: 1, timeout: 20_000 })
      .toBeGreaterThan(0),
  );
  cancelAt('in a later round', ({ source }) =>
    expect.poll(() => source.current.ram['dirty-sync-count'], { timeout: 20_000 }).toBeGreaterThan(2),
  );

  it('cancelled while the VMM pauses it: the pause does not outlive the resume', async () => {
    const cancel = new AbortController();
    const pausing = deferred();
    const pause = (): Promise<void> => {
      cancel.abort();
      setTimeout(pausing.resolve, 200);
      return pausing.promise;
    };
    await using vm = await LiveGuest.create({ pause });
    await attempt(vm, { signal: cancel.signal, live: { downtimeLimitMs: 60_000 } }, async ({ sent }) => {
      expect((await failure(sent)).code).toBe('CANCELLED');
      expect(vm.calls).toEqual(['pause', 'resume']);
      await pausing.promise;
      await setImmediate();
      await expectRunsOn(vm);
    });
  });

  it('the VMM cannot pause it', async () => {
    await using vm = await LiveGuest.create({ pause: () => Promise.reject(new Error('vCPU 3 is stuck')) });
    await attempt(vm, { live: { downtimeLimitMs: 60_000 } }, async ({ sent }) => {
      const error = await failure(sent);
      expect([error.code, error.message]).toEqual([
        'GUEST_ERROR',
        expect.stringContaining('vCPU 3 is stuck'),
      ]);
      await expectRunsOn(vm);
    });
  });

  it('the VMM does not answer', async () => {
    await using vm = await LiveGuest.create({ pause: () => new Promise(() => {}) });
    const options = { responseTimeoutMs: 1_500, live: { downtimeLimitMs: 60_000 } };
    await attempt(vm, options, async ({ sent }) => {
      const error = await failure(sent);
      expect([error.code, (error.cause as MigrationError).code]).toEqual(['GUEST_ERROR', 'TIMEOUT']);
      expect(error.message).toContain('could not be given back: the VMM was told to pause the guest');
      expect(vm.calls).toEqual(['pause', 'resume']);
      await expectRunsOn(vm);
    });
  });

  it('the destination goes away in a round', async () => {
    await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
    await attempt(vm, {}, async ({ source, sent, destination }) => {
      await expect.poll(() => source.current.ram['dirty-sync-count'], { timeout: 20_000 }).toBeGreaterThan(2);
      await destination.close();
      expect(['CONNECTION_LOST', 'PEER_ERROR']).toContain((await failure(sent)).code);
      await expectRunsOn(vm);
    });
  });

  it('the destination goes away while the last pages are collected: it does not wait for that', async () => {
    await using vm = await LiveGuest.create();
    const collecting = deferred();
    const collect = vm.tracker.collect.bind(vm.tracker);
    await attempt(vm, { live: { downtimeLimitMs: 60_000 } }, async ({ sent, destination }) => {
      vi.spyOn(vm.tracker, 'collect').mockImplementation(async (bitmaps) => {
        if (!vm.isRunning) {
          void destination.close();
          await collecting.promise;
        }
        return collect(bitmaps);
      });
      const error = await failure(sent);
      collecting.resolve();
      expect(['CONNECTION_LOST', 'PEER_ERROR']).toContain(error.code);
      expect(vm.calls).toEqual(['pause', 'resume']);
      await expectRunsOn(vm);
    });
  });

  it('the destination goes away while the VMM pauses it: the error is the lost peer’s', async () => {
    const gone = deferred();
    const asked = deferred();
    const pause = async (): Promise<void> => {
      asked.resolve();
      await gone.promise;
      await delay(300); // the source has noticed
      throw new Error('vCPU 3 is stuck');
    };
    await using vm = await LiveGuest.create({ pause });
    await attempt(vm, { live: { downtimeLimitMs: 60_000 } }, async ({ sent, destination }) => {
      await asked.promise;
      await destination.close();
      gone.resolve();
      expect(['CONNECTION_LOST', 'PEER_ERROR']).toContain((await failure(sent)).code);
      expect(vm.calls).toEqual(['pause', 'resume']);
      await expectRunsOn(vm);
    });
  });

  it('the destination refuses the commit', async () => {
    await using vm = await LiveGuest.create();
    const onCommit = (): Promise<void> => Promise.reject(new Error('no disk'));
    await attempt(vm, { onCommit }, async ({ sent }) => {
      expect((await failure(sent)).code).toBe('PEER_ERROR');
      expect(vm.calls).toEqual(['pause', 'resume']);
      await expectRunsOn(vm);
    });
  });
});

describe('where nobody knows whether the destination has it', () => {
  it('the guest stays paused', async () => {
    await using vm = await LiveGuest.create();
    const commit = deferred();
    const asked = deferred();
    const onCommit = (): Promise<void> => {
      asked.resolve();
      return commit.promise;
    };
    await attempt(vm, { onCommit, commitTimeoutMs: 500 }, async ({ sent }) => {
      await asked.promise;
      expect((await failure(sent)).code).toBe('COMMIT_UNKNOWN');
      expect([vm.calls, vm.isRunning]).toEqual([['pause'], false]);
      expect(vm.tracker.stopped).toBe(1);
      commit.resolve();
    });
  });

  it('and is not left throttled', async () => {
    await using vm = await LiveGuest.create({ pages: 4096, speed: 128 });
    const commit = deferred();
    const live: LiveOptions = SLOW_LINK;
    const options = {
      live,
      maxBandwidth: SLOW_BANDWIDTH,
      onCommit: () => commit.promise,
      commitTimeoutMs: 500,
    };
    await attempt(vm, options, async ({ source, sent }) => {
      await expect.poll(() => vm.calls, { timeout: 20_000 }).toContain('throttle 20');
      source.stopAndCopy();
      const error = await failure(sent);
      commit.resolve();
      expect(error.code).toBe('COMMIT_UNKNOWN');
      expect(vm.calls.slice(-2)).toEqual(['pause', 'throttle 0']);
      expect(vm.isRunning).toBe(false);
    });
  });
});
