/** What is allowed to a running guest: refused before anything is opened where it makes no sense. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type LiveOptions, MigrationSource, type SourceVm } from '../../lib/index.ts';
import { LiveGuest } from '../support/live-guest.ts';

let vm: LiveGuest;
beforeAll(async () => {
  vm = await LiveGuest.create({ pages: 1, speed: 0 });
});
afterAll(() => vm[Symbol.asyncDispose]());

const slow = (switchoverMs: unknown): SourceVm =>
  ({ ...vm, after: () => vm.after(), guest: { ...vm.guest, switchoverMs } }) as SourceVm;
const source = (live: LiveOptions, switchoverMs: unknown = 0): MigrationSource =>
  new MigrationSource(slow(switchoverMs), 'rdma:127.0.0.1:1', { live });
const refused = (...words: readonly string[]): unknown =>
  expect.objectContaining({
    code: 'INVALID_ARGUMENT',
    phase: 'configure',
    message: expect.stringMatching(words.join('.*')),
  });

describe('a guest that could never be stopped in time', () => {
  it('is refused at once, and both numbers are named', () => {
    expect(() => source({}, 300)).toThrow(
      refused('switchoverMs \\(300 ms\\)', 'downtimeLimitMs \\(300 ms\\)'),
    );
    expect(() => source({ downtimeLimitMs: 50 }, 1_000)).toThrow(refused('1000 ms', '50 ms'));
    expect(() => source({ downtimeLimitMs: 1_001 }, 1_000)).not.toThrow();
  });

  it('is refused when the limit becomes too low later, and the one before stays', () => {
    const one = source({ downtimeLimitMs: 2_000 }, 1_000);
    expect(() => one.setLive({ downtimeLimitMs: 1_000 })).toThrow(refused('1000 ms', '1000 ms'));
    expect(() => one.setLive({ autoConverge: true })).not.toThrow();
  });

  it.for([-1, Number.NaN, Number.POSITIVE_INFINITY, '5', 5n])(
    'is refused when its VMM says %s ms',
    (said) => {
      expect(() => source({}, said)).toThrow(refused('switchoverMs'));
    },
  );
});

describe('availSwitchoverBandwidth', () => {
  it.for([-1n, 1n << 64n, 5, '5'])('is refused when it is %s', (value) => {
    const live = { availSwitchoverBandwidth: value } as unknown as LiveOptions;
    expect(() => source(live)).toThrow(refused('availSwitchoverBandwidth'));
  });

  it('may be 0, and anything that 64 bits hold', () => {
    for (const value of [0n, 1n, (1n << 64n) - 1n])
      expect(() => source({ availSwitchoverBandwidth: value })).not.toThrow();
  });
});
