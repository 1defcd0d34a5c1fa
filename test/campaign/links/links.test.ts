/** The short form of `npm run campaign:links`. */
import { expect, it } from 'vitest';
import { testSeed } from '../../support/seed.ts';
import { Random } from '../random.ts';
import { caseOf, KINDS } from './case.ts';
import { Images, play } from './play.ts';

it('migrations whose links are cut at random arrive, and nothing is sent again but what was not confirmed', async () => {
  await using images = await Images.create();
  const seeds = new Random(testSeed('links'));
  let resumes = 0;
  for (const kind of [...KINDS, ...KINDS]) {
    const seed = seeds.below(2 ** 31);
    const { source } = await play({ ...caseOf(seed, new Random(seed)), kind }, images);
    resumes += source.resumes;
  }
  expect(resumes).toBeGreaterThan(0);
});
