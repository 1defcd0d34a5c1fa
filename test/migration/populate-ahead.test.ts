/** How much registered memory is touched before WRITEs come. */
import { setImmediate as turn } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { touchedAhead } from '../../lib/migration/options.ts';
import { AHEAD_BYTES, PopulateAhead } from '../../lib/migration/pins/populate-ahead.ts';
import { Registrations } from '../../lib/migration/pins/registrations.ts';
import type { RamBlock } from '../../lib/ram/vm.ts';
import type { Connection } from '../../lib/transport/connection.ts';

const MIB = 1n << 20n;

interface Rig {
  readonly ahead: PopulateAhead;
  readonly mapping: { populate(offset: bigint, length: bigint, keepFree?: boolean): Promise<void> };
  readonly steps: { offset: bigint; length: bigint }[];
  placed: bigint;
  readonly failures: unknown[];
  readonly stop: AbortController;
  touched(): bigint;
}

function rig(populate: () => Promise<void> = async () => undefined): Rig {
  const steps: Rig['steps'] = [];
  const failures: unknown[] = [];
  const stop = new AbortController();
  const made: Rig = {
    steps,
    failures,
    stop,
    placed: 0n,
    mapping: {
      populate: (offset, length, keepFree) => {
        expect(keepFree).toBe(true);
        steps.push({ offset, length });
        return populate();
      },
    },
    touched: () => steps.reduce((sum, { length }) => sum + length, 0n),
    ahead: new PopulateAhead({
      placed: () => made.placed,
      onFailure: (error) => failures.push(error),
      signal: stop.signal,
    }),
  };
  return made;
}

const span = (offset: bigint, length: bigint) => ({ offset, length });
const settle = async (): Promise<void> => {
  for (let i = 0; i < 20; i++) await turn();
};

describe('touching ahead', () => {
  beforeEach(() => vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] }));
  afterEach(() => vi.useRealTimers());

  it('stays within its window until WRITEs have filled what was touched, in the order of the registrations', async () => {
    const r = rig();
    r.ahead.add(r.mapping, span(0n, 40n * MIB));
    r.ahead.add(r.mapping, span(1024n * MIB, 1024n * MIB));
    await settle();
    await vi.advanceTimersByTimeAsync(10_000);
    expect(r.touched()).toBeLessThanOrEqual(AHEAD_BYTES);
    expect(r.touched()).toBeGreaterThan(AHEAD_BYTES / 2n);
    expect(r.steps.slice(0, 4)).toEqual([
      span(0n, 16n * MIB),
      span(16n * MIB, 16n * MIB),
      span(32n * MIB, 8n * MIB),
      span(1024n * MIB, 16n * MIB),
    ]);
    const before = r.touched();
    r.placed = 100n * MIB;
    await vi.advanceTimersByTimeAsync(1_000);
    await settle();
    expect(r.touched()).toBeGreaterThan(before);
    expect(r.touched()).toBeLessThanOrEqual(r.placed + AHEAD_BYTES);
    r.placed = 4096n * MIB;
    for (let i = 0; i < 100; i++) await vi.advanceTimersByTimeAsync(10);
    expect(r.touched()).toBe(1064n * MIB);
    expect(vi.getTimerCount()).toBe(0);
  });

  it('forgets what is registered no more', async () => {
    const r = rig();
    const wanted = span(0n, 1024n * MIB);
    r.ahead.add(r.mapping, wanted);
    await settle();
    const before = r.touched();
    r.ahead.drop(new Set([wanted]));
    r.placed = 4096n * MIB;
    await vi.advanceTimersByTimeAsync(1_000);
    expect(r.touched()).toBe(before);
  });

  it.each(['end', 'signal'] as const)(
    'touches nothing after its %s, and waits for what is being touched',
    async (how) => {
      let finish = (): void => undefined;
      const first = new Promise<void>((resolve) => {
        finish = resolve;
      });
      const r = rig(() => first);
      r.ahead.add(r.mapping, span(0n, 1024n * MIB));
      if (how === 'signal') r.stop.abort();
      let over = false;
      const ended = r.ahead.end().then(() => {
        over = true;
      });
      await settle();
      expect(over).toBe(false);
      const before = r.touched();
      finish();
      await ended;
      r.placed = 4096n * MIB;
      await vi.advanceTimersByTimeAsync(1_000);
      expect([r.touched(), vi.getTimerCount()]).toEqual([before, 0]);
    },
  );

  it('says when memory cannot be had', async () => {
    const r = rig(() => Promise.reject(new Error('no')));
    r.ahead.add(r.mapping, span(0n, MIB));
    await settle();
    expect(r.failures).toMatchObject([{ message: 'no' }]);
  });
});

describe('which memory is touched ahead', () => {
  it('is said by the option and the number of cores', () => {
    expect(touchedAhead({}, 2)).toBe('none');
    expect(touchedAhead({}, 3)).toBe('unless-filled-through-file');
    expect(touchedAhead({ populate: 'always' }, 1)).toBe('all');
    expect(touchedAhead({ populate: 'never' }, 64)).toBe('none');
  });

  it.each([
    ['all', true, 1],
    ['all', false, 1],
    ['unless-filled-through-file', true, 0],
    ['unless-filled-through-file', false, 1],
    ['none', false, 0],
  ] as const)('%s, memory that is filled through its file: %s', async (touched, fillsThroughFile, steps) => {
    const populate = vi.fn(async () => undefined);
    const connection = {
      info: { pinsMemory: false },
      ended: new AbortController().signal,
      stats: () => ({ writeBytesPlaced: 0n }),
      register: async () => Uint32Array.of(6, 7),
    } as unknown as Connection;
    const block = {
      name: 'ram',
      length: MIB,
      mapping: { populate, fillsThroughFile },
    } as unknown as RamBlock;
    const registrations = new Registrations(connection, [block], {
      touchedAhead: touched,
      onFailure: () => undefined,
      signal: new AbortController().signal,
    });
    const whole = { offset: 0n, length: MIB, firstChunk: 0n, moreChunks: 0n };
    expect(await registrations.register([{ index: 0, span: whole, populate: true }])).toEqual([7]);
    await registrations.settled();
    expect(populate).toHaveBeenCalledTimes(steps);
  });
});
