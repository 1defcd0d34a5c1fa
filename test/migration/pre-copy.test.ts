import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import type { Guest } from '../../lib/index.ts';
import { GuestControl } from '../../lib/migration/guest-control.ts';
import { liveParameters } from '../../lib/migration/options.ts';
import { preCopy, type RamRound } from '../../lib/migration/pre-copy.ts';
import type { RamPassResult } from '../../lib/migration/ram-pass.ts';
import { Statistics } from '../../lib/migration/statistics.ts';

const NOTHING_MOVED: RamRound = { pages: 0n, bytes: 0n, zeroBytes: 0n, controlMs: 0 };
const TIME_LIMIT_MS = 50;
/** However late timers are here: this one is set behind the limit's and is longer. */
const behindTheLimit = (): Promise<void> => delay(4 * TIME_LIMIT_MS);

interface Script {
  readonly part?: () => Promise<void>;
  readonly collect?: () => Promise<void>;
}

/** The loop over no RAM at all, of a guest whose switch-over takes longer than is allowed: only a word or the time ends it. */
class Loop {
  readonly calls: string[] = [];
  readonly moved: Promise<RamPassResult>;
  readonly #stopNow = new AbortController();

  constructor(script: Script) {
    this.moved = preCopy({
      guest: new GuestControl(this.#guest(script), { timeoutMs: 10_000 }),
      live: {
        parameters: () => liveParameters({ timeLimitMs: TIME_LIMIT_MS }),
        stopNow: this.#stopNow.signal,
      },
      tracked: [],
      settling: [],
      pass: async (kind) => {
        this.calls.push(kind);
        if (kind === 'part') await script.part?.();
        return NOTHING_MOVED;
      },
      unlimit: () => {},
      statistics: new Statistics(),
      signal: new AbortController().signal,
      notice: () => {},
    });
    this.moved.catch(() => {});
  }

  stop(): void {
    this.#stopNow.abort();
  }

  #guest({ collect }: Script): Guest {
    return {
      switchoverMs: 1_000,
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
    };
  }
}

describe('the time limit', () => {
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
