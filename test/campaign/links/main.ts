/**
 * `npm run campaign:links -- --cases N [--seed S]`, or `--case-seed S` to repeat one case: migrations whose links are cut at random. Each has to arrive as it
 * was, and to send again only what was not confirmed; afterwards nothing is held that was not held before. Exits with 1 if one did not.
 */
import { parseArgs } from 'node:util';
import { held, settled } from '../../support/leaks.ts';
import { Random } from '../random.ts';
import { Tally } from '../tally.ts';
import { caseOf } from './case.ts';
import { Images, type Played, play } from './play.ts';

/** What is made once is there before it is counted. */
const WARM = 10;

function number(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Error(`expected a number but received ${text}`);
}

const { values } = parseArgs({
  options: { cases: { type: 'string' }, seed: { type: 'string' }, 'case-seed': { type: 'string' } },
});
const tally = new Tally();
const resent: number[] = [];

function count({ source, cuts }: Played, kind: string): void {
  tally.add(
    `arrived: ${kind}, ${source.channels} channels, pin-all ${source['pin-all'] ? 'on' : 'off'}${source.encrypted ? ', TLS' : ''}`,
  );
  tally.add(`cuts: ${cuts === 0 ? 'none (came too late)' : cuts}`);
  tally.add(`resumes: ${source.resumes}`);
  resent.push(source['resent-bytes']);
}

/** False: it did not arrive. */
async function run(seed: number, images: Images): Promise<boolean> {
  const it = caseOf(seed, new Random(seed));
  try {
    count(await play(it, images), it.kind);
    return true;
  } catch (error) {
    process.stdout.write(`FAILED case ${seed}: ${String(error)}\n${JSON.stringify(it)}\n`);
    return false;
  }
}

async function main(): Promise<number> {
  const one = number(values['case-seed']);
  await using images = await Images.create();
  if (one !== undefined) return (await run(one, images)) ? 0 : 1;
  const seed = number(values.seed) ?? Date.now() % 2 ** 31;
  const cases = number(values.cases) ?? 20;
  process.stdout.write(`seed ${seed}\n`);
  const seeds = new Random(seed);
  let failed = 0;
  const some = async (count: number): Promise<void> => {
    for (let at = 0; at < count; at += 1) if (!(await run(seeds.below(2 ** 31), images))) failed += 1;
  };
  await some(Math.min(WARM, cases));
  const before = await held();
  await some(cases - Math.min(WARM, cases));
  const { excess } = await settled(before);
  const leak = Object.keys(excess).length > 0;
  if (leak) process.stdout.write(`HELD afterwards, more than before: ${JSON.stringify(excess)}\n`);
  resent.sort((left, right) => left - right);
  const at = (part: number): number => resent[Math.floor((resent.length - 1) * part)] ?? 0;
  process.stdout.write(
    `${tally.lines().join('\n')}\nbytes sent again: median ${at(0.5)}, most ${at(1)}\n${cases} cases, seed ${seed}, ${failed} failed\n`,
  );
  return failed === 0 && !leak ? 0 : 1;
}

process.exit(await main());
