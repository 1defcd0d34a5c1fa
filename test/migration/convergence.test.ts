import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  type ConvergenceLimits,
  decide,
  estimateBandwidth,
  NO_THROTTLE,
  type RoundFacts,
} from '../../lib/migration/convergence.ts';

const MIB = 2 ** 20;
const LIMITS: ConvergenceLimits = {
  downtimeLimitMs: 300,
  switchoverMs: 0,
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
  roundMs: 1000,
  collectMs: 10,
  controlMs: 0,
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
      roundMs: amount,
      collectMs: fc.double({ min: 0, max: 1e5, noNaN: true }),
      controlMs: fc.double({ min: 0, max: 1e5, noNaN: true }),
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

describe('estimateBandwidth', () => {
  it('follows passes that move enough to tell, and keeps the best of the others', () => {
    expect(estimateBandwidth(0, 100 * MIB, 1000)).toBe(100 * MIB);
    expect(estimateBandwidth(100 * MIB, 300 * MIB, 1000)).toBe(200 * MIB);
    expect(estimateBandwidth(100 * MIB, 1 * MIB, 1000)).toBe(100 * MIB);
    expect(estimateBandwidth(0, 1 * MIB, 1000)).toBe(1 * MIB);
    expect(estimateBandwidth(5, 0, 1000)).toBe(5);
    expect(estimateBandwidth(5, 1000, 0)).toBe(5);
  });
});
