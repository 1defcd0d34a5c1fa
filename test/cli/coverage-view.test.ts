import { expect, it } from 'vitest';
import { coverageLine } from '../../lib/cli/coverage-view.ts';

it('says that every page was told only where that is known', () => {
  const line = coverageLine({ state: 'whole', missing: 0 }, 'the stream');
  expect(line).toBe('the stream accounted for every page of RAM');
});

it('says how much is missing and why, and that nothing is there', () => {
  const line = coverageLine(
    { state: 'with-gaps', missing: 3 << 20, reason: 'the guest said so' },
    'the source',
  );
  expect(line).toBe(
    'RAM with gaps: the source did not account for 3.0 MiB, which are zeros here: the guest said so',
  );
});

it('says that it is not known, and why', () => {
  const line = coverageLine({ state: 'unknown', missing: 0, reason: 'a device is silent' }, 'the source');
  expect(line).toBe('not known whether the source accounted for every page of RAM: a device is silent');
});
