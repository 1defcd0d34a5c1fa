import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Guest, LiveOptions } from '../../lib/index.ts';
import type { MigrationEvent } from '../../lib/migration/events.ts';
import { Journal } from '../../lib/migration/journal.ts';
import { GuestControl } from '../../lib/migration/live/guest-control.ts';
import { preCopy, type RamRound } from '../../lib/migration/live/pre-copy.ts';
import { liveParameters } from '../../lib/migration/options.ts';
import type { RamPassResult, SourceBlock } from '../../lib/migration/ram-round.ts';

const NOTHING_MOVED: RamRound = {
  pages: 0n,
  bytes: 0n,
  zeroBytes: 0n,
  controlMs: 0,
  wireMs: 0,
  overheadMs: 0,
};
const TIME_LIMIT_MS = 50;
/** However late timers are here: this one is set behind the limit's and is longer. */
const behindTheLimit = (): Promise<void> => delay(4 * TIME_LIMIT_MS);

interface Script {
  readonly part?: () => Promise<void>;
  readonly collect?: () => Promise<void>;
  /** Default: {@link TIME_LIMIT_MS} for running, and too little downtime. */
  readonly live?: () => LiveOptions;
  readonly switchoverMs?: () => number;
  readonly throttle?: () => Promise<void>;
  /** Bytes that are found written by each collect. Default: nothing is tracked. */
  readonly dirty?: number;
}

/** The loop over no RAM at all, of a guest whose switch-over takes longer than is allowed: only a word or the time ends it. */
class Loop {
  readonly calls: string[] = [];
  readonly moved: Promise<RamPassResult>;
  readonly notices: string[] = [];
  readonly events: MigrationEvent[] = [];
  readonly #stopNow = new AbortController();

  constructor(script: Script) {
    this.moved = preCopy({
      guest: new GuestControl(this.#guest(script), { timeoutMs: 10_000 }),
      live: {
        parameters: () => liveParameters(script.live?.() ?? { timeLimitMs: TIME_LIMIT_MS }),
        stopNow: this.#stopNow.signal,
      },
      tracked: script.dirty === undefined ? [] : [blockWith(script.dirty)],
      settling: [],
      pass: async (kind) => {
        this.calls.push(kind);
        if (kind === 'part') await script.part?.();
        return NOTHING_MOVED;
      },
      unlimit: () => {},
      journal: new Journal('ram', (event) => {
        this.events.push(event);
        if (event.type === 'notice') this.notices.push(event.message);
      }),
      signal: new AbortController().signal,
    });
    this.moved.catch(() => {});
  }

  stop(): void {
    this.#stopNow.abort();
  }

  #guest({ collect, throttle, switchoverMs = () => 1_000 }: Script): Guest {
    return {
      get switchoverMs() {
        return switchoverMs();
      },
      tracker: {
        kind: 'bitmap',
        start: async () => {},
        collect: async () => {
          await collect?.();
          return 0n;
        },
        stop: async () => {},
        [Symbol.asyncDispose]: async () => {},
      },
      pause: async () => void this.calls.push('pause'),
      resume: async () => {},
      ...(throttle && { throttle }),
    };
  }
}

/** A block of which each look finds so many bytes to be sent. */
function blockWith(bytes: number): SourceBlock {
  const bitmap = { pages: bytes / 4096, count: () => bytes / 4096, setRange() {}, clearRange() {} };
  return { bitmap, block: { mapping: { pageSize: 4096 } } } as unknown as SourceBlock;
}

describe('the time limit', () => {
  it('says that the first pass had not ended, where it had not', async () => {
    const message = expect.stringMatching(/first pass still/);
    await expect(new Loop({ part: behindTheLimit }).moved).rejects.toMatchObject({ message });
    const later = expect.not.stringMatching(/first pass still/);
    await expect(new Loop({ collect: behindTheLimit }).moved).rejects.toMatchObject({ message: later });
  });

  it('cancels in a pass, and between two', async () => {
    await expect(new Loop({ part: behindTheLimit }).moved).rejects.toMatchObject({ code: 'NOT_CONVERGED' });
    await expect(new Loop({ collect: behindTheLimit }).moved).rejects.toMatchObject({
      code: 'NOT_CONVERGED',
    });
  });

  it('does not cancel when it falls into a pass in which the guest was told to stop', async () => {
    const loop: Loop = new Loop({
      part: async () => {
        await delay(1); // the clock of this pass is watched
        loop.stop();
        await behindTheLimit();
      },
    });
    await loop.moved;
    expect(loop.calls).toEqual(['part', 'pause', 'end']);
  });

  it('does not cancel when the guest was told to stop between two passes', async () => {
    const loop: Loop = new Loop({
      collect: async () => {
        loop.stop();
        await behindTheLimit();
      },
    });
    await loop.moved;
    expect(loop.calls).toEqual(['part', 'pause', 'end']);
  });
});

describe('the dirty rate', () => {
  it('counts the whole time since the last collect, whatever it was spent on', async () => {
    const DIRTY = 64 * 4096;
    const PAUSE_MS = 200;
    let collects = 0;
    const loop: Loop = new Loop({
      dirty: DIRTY,
      switchoverMs: () => 0,
      throttle: () => delay(PAUSE_MS),
      collect: async () => {
        collects += 1;
        if (collects === 5) loop.stop();
      },
      // As if the link were so slow that the guest can never be stopped.
      live: () => ({ autoConverge: true, downtimeLimitMs: 1, availSwitchoverBandwidth: 1n }),
    });
    await loop.moved;
    const rates = loop.events.flatMap((event) =>
      event.type === 'round' && event.state === 'synced' ? [event['dirty-bytes-rate']] : [],
    );
    const throttled = loop.events.findIndex(({ type }) => type === 'throttle');
    expect(throttled).toBeGreaterThan(0);
    // The round after the throttle took next to no time itself; its guest has written through the throttle as well.
    const before = loop.events
      .slice(0, throttled)
      .filter((e) => e.type === 'round' && e.state === 'synced').length;
    expect(rates[before]).toBeGreaterThan(0);
    expect(rates[before]).toBeLessThanOrEqual((DIRTY * 1000) / PAUSE_MS);
  });
});

describe('a downtime limit that no round can meet', () => {
  it('is told, once for each limit, with what goes where', async () => {
    const rounds = { limited: 0, looser: 0 };
    const loop: Loop = new Loop({
      // A round is not hurried then, so these take a moment.
      part: async () => {
        rounds[rounds.limited < 5 ? 'limited' : 'looser'] += 1;
        if (rounds.looser === 5) loop.stop();
      },
      live: () => ({ downtimeLimitMs: rounds.limited < 5 ? 300 : 900 }),
    });
    await loop.moved;
    expect(loop.notices.map((notice) => /only (\d+ ms)/.exec(notice)?.[1])).toEqual(['300 ms', '900 ms']);
    expect(loop.notices[0]).toContain("the VMM's switch-over (1000 ms)");
    expect(loop.notices[0]).toContain('downtimeLimitMs');
  });

  it('is not told for one round that was slow', async () => {
    let rounds = 0;
    const loop: Loop = new Loop({
      part: async () => {
        rounds += 1;
      },
      live: () => ({ downtimeLimitMs: rounds === 1 ? 300 : 60_000 }),
    });
    await loop.moved;
    expect(loop.notices).toEqual([]);
  });
});

describe('a VMM that says nonsense of its switch-over, or fails to say it', () => {
  const fails = (): number => {
    throw new Error('the VMM is gone');
  };
  it.for([
    ['NaN', () => Number.NaN],
    ['the VMM is gone', fails],
  ] as const)('ends the migration: %s', async ([why, switchoverMs]) => {
    await expect(new Loop({ switchoverMs }).moved).rejects.toMatchObject({
      code: 'GUEST_ERROR',
      message: expect.stringMatching(`switchoverMs.*${why}`),
    });
  });
});
