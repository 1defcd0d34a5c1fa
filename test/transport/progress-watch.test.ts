import { expect, it } from 'vitest';
import { LEAST_RATE, ProgressWatch } from '../../lib/transport/progress-watch.ts';

function scripted(windowMs: number) {
  const at = { bytes: 0n, ms: 0, excusedMs: 0 };
  const watch = new ProgressWatch(
    windowMs,
    () => at.bytes,
    () => at.excusedMs,
    () => at.ms,
  );
  return { at, watch };
}

it('bytes that come too slowly are no progress', () => {
  const { at, watch } = scripted(10_000);
  for (let second = 1; second < 10; second++) {
    Object.assign(at, { ms: second * 1000, bytes: BigInt(second) });
    expect(watch.stalled()).toBe(false);
  }
  at.ms = 10_000;
  expect(watch.stalled()).toBe(true);
});

it('what is just fast enough goes on for ever', () => {
  const { at, watch } = scripted(10_000);
  for (let second = 1; second < 1000; second++) {
    Object.assign(at, { ms: second * 1000, bytes: BigInt(second * LEAST_RATE) });
    expect(watch.stalled()).toBe(false);
  }
});

it('the end of a progress is noticed a quarter of the time late at most', () => {
  const { at, watch } = scripted(8_000);
  Object.assign(at, { ms: 4_000, bytes: 1n << 20n });
  expect(watch.stalled()).toBe(false);
  let looks = 0;
  while (!watch.stalled()) {
    expect(watch.nextLookMs).toBeLessThanOrEqual(2_000);
    at.ms += watch.nextLookMs;
    expect(looks++).toBeLessThan(10);
  }
  expect(at.ms).toBe(12_000);
});

it('a limit of a millisecond is one', () => {
  const { at, watch } = scripted(1);
  at.ms = 1;
  expect(watch.stalled()).toBe(true);
});

it('what is excused counts for nothing, before progress and after it', () => {
  const { at, watch } = scripted(10_000);
  Object.assign(at, { ms: 60_000, excusedMs: 55_000 });
  expect(watch.stalled()).toBe(false);
  expect(watch.nextLookMs).toBe(2_500);
  Object.assign(at, { ms: 61_000, bytes: 20_000n });
  expect(watch.stalled()).toBe(false);
  Object.assign(at, { ms: 75_000, excusedMs: 60_000 });
  expect(watch.stalled()).toBe(false);
  at.ms = 76_000;
  expect(watch.stalled()).toBe(true);
});
