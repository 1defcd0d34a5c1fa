import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bandwidthOf,
  type ConvergenceLimits,
  decide,
  NO_THROTTLE,
  NOTHING_SEEN,
  type RoundFacts,
  seeLink,
} from '../../lib/migration/live/convergence.ts';
import { passCosts, type WireTime } from '../../lib/migration/source/wire-time.ts';

const MIB = 2 ** 20;
const LIMITS: ConvergenceLimits = {
  downtimeLimitMs: 300,
  switchoverMs: 0,
  availSwitchoverBandwidth: 0,
  autoConverge: true,
  cpuThrottleInitial: 20,
  cpuThrottleIncrement: 10,
  maxCpuThrottle: 99,
  throttleTriggerThreshold: 50,
};
const FACTS: RoundFacts = {
  pendingBytes: 100 * MIB,
  dirtiedBytes: 100 * MIB,
  movedBytes: 400 * MIB,
  sinceSyncMs: 1000,
  collectMs: 10,
  controlMs: 0,
  overheadMs: 0,
  bandwidth: 400 * MIB,
};

describe('decide', () => {
  it('stops the VM when the rest can be sent within the downtime limit', () => {
    const decision = decide(LIMITS, FACTS, NO_THROTTLE);
    expect(decision.verdict).toBe('converged');
    expect(decision.expectedDowntimeMs).toBeCloseTo(260);
    expect(decision.dirtyRate).toBe(100 * MIB);
  });

  it('counts collecting and switching over as downtime', () => {
    expect(decide({ ...LIMITS, switchoverMs: 50 }, FACTS, NO_THROTTLE).verdict).toBe('converging');
    expect(decide(LIMITS, { ...FACTS, collectMs: 60 }, NO_THROTTLE).verdict).toBe('converging');
    expect(decide(LIMITS, { ...FACTS, controlMs: 25 }, NO_THROTTLE).verdict).toBe('converging');
  });

  it('says why it goes on', () => {
    const much = { ...FACTS, pendingBytes: 500 * MIB };
    expect(decide(LIMITS, much, NO_THROTTLE).verdict).toBe('converging');
    expect(decide(LIMITS, { ...much, dirtiedBytes: 500 * MIB }, NO_THROTTLE).verdict).toBe('dirty-rate');
    expect(decide({ ...LIMITS, switchoverMs: 300 }, FACTS, NO_THROTTLE).verdict).toBe('fixed-costs');
  });

  it('expects no end while nothing could be sent yet, and needs none for nothing', () => {
    const nothingSent = { ...FACTS, bandwidth: 0 };
    expect(decide(LIMITS, nothingSent, NO_THROTTLE).expectedDowntimeMs).toBe(Number.POSITIVE_INFINITY);
    expect(decide(LIMITS, { ...nothingSent, pendingBytes: 0 }, NO_THROTTLE).verdict).toBe('converged');
  });

  it('reckons with the bandwidth that it is told there will be', () => {
    const told = { ...LIMITS, availSwitchoverBandwidth: 200 * MIB };
    expect(decide(told, FACTS, NO_THROTTLE).expectedDowntimeMs).toBeCloseTo(510);
    expect(decide(told, FACTS, NO_THROTTLE).bandwidth).toBe(200 * MIB);
    expect(decide(told, { ...FACTS, bandwidth: 0 }, NO_THROTTLE).expectedDowntimeMs).toBeCloseTo(510);
  });

  it('expects scanning for as much as is left', () => {
    const scanned = { ...FACTS, overheadMs: 80 };
    expect(decide(LIMITS, scanned, NO_THROTTLE).expectedDowntimeMs).toBeCloseTo(280); // a quarter
    const more = { ...scanned, pendingBytes: 800 * MIB };
    expect(decide(LIMITS, more, NO_THROTTLE).expectedDowntimeMs).toBeCloseTo(2090); // no more than it was
    expect(decide(LIMITS, { ...scanned, movedBytes: 0 }, NO_THROTTLE).expectedDowntimeMs).toBeCloseTo(260);
  });

  it('does not throttle a guest that a faster link than max-bandwidth could stop', () => {
    // Rounds of a second each: what the limit lets through is what the guest has written again.
    const limited = { ...FACTS, pendingBytes: 64 * MIB, dirtiedBytes: 64 * MIB, movedBytes: 64 * MIB };
    expect(decide(LIMITS, limited, { percentage: 0, highRounds: 1 })).toMatchObject({
      verdict: 'converged',
      throttle: { percentage: 0 },
    });
  });

  it('throttles after two rounds that dirty too much, in steps up to the limit', () => {
    const fast = { ...FACTS, pendingBytes: 400 * MIB, dirtiedBytes: 400 * MIB };
    const percentages = [];
    let throttle = NO_THROTTLE;
    for (let round = 0; round < 22; round += 1) {
      throttle = decide(LIMITS, fast, throttle).throttle;
      percentages.push(throttle.percentage);
    }
    expect(percentages.slice(0, 6)).toEqual([0, 20, 20, 30, 30, 40]);
    expect(percentages.at(-1)).toBe(99);
    expect(
      decide({ ...LIMITS, autoConverge: false }, fast, { percentage: 0, highRounds: 9 }).throttle.percentage,
    ).toBe(0);
  });

  it('does not throttle a guest that dirties less than the threshold', () => {
    const calm = { ...FACTS, pendingBytes: 190 * MIB, dirtiedBytes: 190 * MIB };
    expect(decide(LIMITS, calm, { percentage: 0, highRounds: 1 }).throttle).toEqual({
      percentage: 0,
      highRounds: 1,
    });
  });

  it('never stops the VM for longer than is allowed, as far as can be told, and never over-throttles', () => {
    const amount = fc.double({ min: 0, max: 1e13, noNaN: true });
    const facts = fc.record({
      pendingBytes: amount,
      dirtiedBytes: amount,
      movedBytes: amount,
      sinceSyncMs: amount,
      collectMs: fc.double({ min: 0, max: 1e5, noNaN: true }),
      controlMs: fc.double({ min: 0, max: 1e5, noNaN: true }),
      overheadMs: fc.double({ min: 0, max: 1e5, noNaN: true }),
      bandwidth: amount,
    });
    const state = fc.record({ percentage: fc.integer({ min: 0, max: 99 }), highRounds: fc.nat(3) });
    fc.assert(
      fc.property(facts, state, fc.integer({ min: 1, max: 1e5 }), (seen, before, downtimeLimitMs) => {
        const decision = decide({ ...LIMITS, downtimeLimitMs }, seen, before);
        expect(decision.verdict === 'converged').toBe(decision.expectedDowntimeMs <= downtimeLimitMs);
        expect(decision.throttle.percentage).toBeGreaterThanOrEqual(before.percentage);
        expect(decision.throttle.percentage).toBeLessThanOrEqual(99);
      }),
    );
  });
});

describe('the bandwidth that passes have shown', () => {
  const shown = (...passes: readonly (readonly [bytes: number, ms: number])[]): number =>
    bandwidthOf(passes.reduce((seen, [bytes, ms]) => seeLink(seen, bytes, ms), NOTHING_SEEN));

  it('is 0 before anything was sent, and that of the first pass', () => {
    expect(shown()).toBe(0);
    expect(shown([100 * MIB, 1000])).toBe(100 * MIB);
    expect(shown([MIB, 10])).toBe(100 * MIB);
  });

  it('follows passes that move much', () => {
    expect(shown([100 * MIB, 1000], [300 * MIB, 1000]) / MIB).toBeCloseTo(300, 0);
    expect(shown([300 * MIB, 1000], [300 * MIB, 3000]) / MIB).toBeCloseTo(100, 0);
  });

  it('is hardly moved by a pass of a few pages, and by many of them is', () => {
    const page = [4096, 0.004] as const; // 1000 MiB/s, from a cache
    expect(shown([100 * MIB, 1000], page) / MIB).toBeCloseTo(100, 0);
    const many = Array.from({ length: 60_000 }, () => page);
    expect(shown([100 * MIB, 1000], ...many) / MIB).toBeGreaterThan(800);
  });

  it('learns nothing from a pass that sent nothing', () => {
    expect(shown([5 * MIB, 1000], [0, 1000], [1000, 0])).toBe(5 * MIB);
  });
});

describe('what a pass cost', () => {
  const NOTHING: WireTime = { posted: 0, unacknowledged: 0, held: 0 };

  it('is time on the wire and what the wire waited for, without the pauses of max-bandwidth', () => {
    const after = { posted: 40, unacknowledged: 0, held: 900 };
    expect(passCosts(NOTHING, after, 1000)).toEqual({ wireMs: 40, overheadMs: 60 });
  });

  it('counts as on the wire what the kernel has taken and the peer has not', () => {
    const before = { posted: 5, unacknowledged: 100, held: 0 };
    const after = { posted: 15, unacknowledged: 300, held: 0 };
    expect(passCosts(before, after, 10)).toEqual({ wireMs: 200, overheadMs: 0 });
  });

  it('is never less than nothing, also when the connection has ended and tells no time any more', () => {
    expect(passCosts({ posted: 5, unacknowledged: 100, held: 5 }, { ...NOTHING, posted: 5 }, 1)).toEqual({
      wireMs: 0,
      overheadMs: 6,
    });
  });
});
