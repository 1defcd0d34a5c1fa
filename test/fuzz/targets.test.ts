/** A short run of every fuzzer: that the product keeps its word, and that the fuzzers reach what they are for. */
import { describe, expect, it } from 'vitest';
import { testSeed } from '../support/seed.ts';
import { runTarget } from './runner.ts';
import { SHORT_RUN } from './target.ts';
import { TARGETS } from './targets/index.ts';

describe.each(TARGETS.map((target) => [target.name, target] as const))('%s', (name, target) => {
  it(`feeds ${target.feeds}, and finds nothing`, async () => {
    const most = target.shortRun ?? SHORT_RUN;
    const plan = { seed: testSeed(`fuzz ${name}`), first: 0, most, until: Number.POSITIVE_INFINITY };
    const { failures } = await runTarget(target, plan, () => {});
    expect(failures).toEqual([]);
  });
});
