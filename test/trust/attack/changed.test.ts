/** Somebody in between who changes one byte, anywhere: a short run of the campaign (README.md). */
import { expect, it } from 'vitest';
import { testSeed } from '../../support/seed.ts';
import { PARTS } from '../../support/wire-units.ts';
import { attackedWays, type Case, drawCases, play } from './cases.ts';
import { codeOf } from './judge.ts';
import { SecretVm } from './secret-vm.ts';

const CASES = 60;
/** Some wait for a byte that does not come. */
const AT_A_TIME = 10;
const PAGES = 16;

it('one changed byte ends a migration, or harms nobody, wherever it is', async () => {
  await using vm = await SecretVm.create(PAGES);
  const ways = attackedWays();
  const drawn = drawCases(vm, ways, testSeed('one changed byte'));
  const said: string[] = [];
  const parts = new Set<string>();
  let struck = 0;
  const one = async (it: Case): Promise<void> => {
    const { lies, strike, outcome } = await play(vm, ways, it);
    const ends = `${codeOf(outcome.source)}, ${codeOf(outcome.destination)}`;
    for (const lie of lies) said.push(`${JSON.stringify(it)}: ${lie} (${ends})`);
    if (!strike) return;
    struck += 1;
    parts.add(`${strike.part} towards the ${strike.towards}`);
  };
  let left = CASES;
  const work = async (): Promise<void> => {
    while (left-- > 0) {
      const { value } = await drawn.next();
      if (value) await one(value);
    }
  };
  await Promise.all(Array.from({ length: AT_A_TIME }, work));
  expect(said).toEqual([]);
  expect(struck).toBeGreaterThan(CASES / 2);
  for (const part of PARTS.filter((part) => part !== 'ram'))
    for (const towards of ['source', 'destination'])
      expect(parts).toContain(`${part} towards the ${towards}`);
  expect(parts).toContain('ram towards the destination');
}, 120_000);
