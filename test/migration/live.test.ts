import { setTimeout as delay, setImmediate } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import {
  type LiveOptions,
  MigrationDestination,
  MigrationError,
  type MigrationResult,
  MigrationSource,
  type SourceOptions,
} from '../../lib/index.ts';
import { Connection } from '../../lib/transport/connection.ts';
import { differences, LiveGuest, MemoryTarget } from '../support/live-guest.ts';

const OPTIONS: SourceOptions = { provider: 'iwarp', responseTimeoutMs: 5_000 };

interface Attempt {
  readonly vm: LiveGuest;
  readonly target: MemoryTarget;
  readonly source: MigrationSource;
  readonly destination: MigrationDestination;
  readonly sent: Promise<MigrationResult>;
  readonly received: Promise<MigrationResult>;
}

/** Starts both ends; they are over, one way or the other, when `work` has ended. */
async function attempt(
  vm: LiveGuest,
  options: SourceOptions & { signal?: AbortSignal; onCommit?: () => Promise<void> },
  work: (attempt: Attempt) => Promise<void>,
): Promise<void> {
  const { signal, onCommit, ...rest } = options;
  await using target = new MemoryTarget(onCommit);
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    provider: 'iwarp',
  });
  const source = new MigrationSource(vm, destination.uri, { ...OPTIONS, ...rest });
  const received = destination.receive();
  const sent = source.migrate(signal ? { signal } : {});
  received.catch(() => {});
  sent.catch(() => {});
  try {
    await work({ vm, target, source, destination, sent, received });
  } finally {
    await destination.close();
    await Promise.allSettled([sent, received]);
  }
}

function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

async function failure(promise: Promise<unknown>): Promise<MigrationError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof MigrationError)) throw new Error(`no MigrationError: ${String(error)}`);
  return error;
}

/** The guest runs on: it writes. */
async function expectRunsOn(vm: LiveGuest): Promise<void> {
  expect(vm.isRunning).toBe(true);
  const before = vm.writes;
  await expect.poll(() => vm.writes, { timeout: 10_000 }).toBeGreaterThan(before);
  expect(vm.tracker.stopped).toBe(vm.tracker.started);
}

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

  const downtimeAtDisconnect = async (commit: 'auto' | 'off') => {
    await using vm = await LiveGuest.create();
    let before: number | undefined;
    let after: number | undefined;
    await attempt(vm, { commit }, async ({ source, destination, sent, received }) => {
      const disconnect = Connection.prototype.disconnect;
      vi.spyOn(Connection.prototype, 'disconnect').mockImplementation(async function (this: Connection, ms) {
        const isSource = destination.uri.endsWith(this.info.peerAddress);
        if (isSource) before = source.current.live?.downtime;
        await disconnect.call(this, ms);
        if (isSource) await delay(10);
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
    const live: LiveOptions = { autoConverge: true, timeLimitMs: 60_000, downtimeLimitMs: 150 };
    await attempt(vm, { live, maxBandwidth: 64n << 20n }, async ({ source, sent, destination }) => {
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
    const live: LiveOptions = { autoConverge: true, downtimeLimitMs: 150 };
    await attempt(vm, { live, maxBandwidth: 64n << 20n }, async ({ source, target, sent, received }) => {
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

/** A whole pass of the test's guest takes minutes. */
const CRAWL = 32n << 10n;

describe('a guest that stands still is not kept waiting by max-bandwidth', () => {
  it('stopped in a pass: neither the rest of it nor the last one', async () => {
    await using vm = await LiveGuest.create();
    await attempt(vm, { maxBandwidth: CRAWL }, async ({ source, target, sent, received }) => {
      await expect.poll(() => source.current.ram['dirty-sync-count']).toBe(1);
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
      await expect.poll(() => source.current.ram['dirty-sync-count']).toBeGreaterThan(1);
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
    expect.poll(() => source.current.ram['dirty-sync-count'], { interval: 1 }).toBeGreaterThan(0),
  );
  cancelAt('in a later round', ({ source }) =>
    expect.poll(() => source.current.ram['dirty-sync-count']).toBeGreaterThan(2),
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
      await expect.poll(() => source.current.ram['dirty-sync-count']).toBeGreaterThan(2);
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
    const live: LiveOptions = { autoConverge: true, downtimeLimitMs: 150 };
    const options = {
      live,
      maxBandwidth: 64n << 20n,
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
