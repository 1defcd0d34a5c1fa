/**
 * `npm run campaign:moves -- --cases N [--seed S] [--jobs J]`, or `--case-seed S` to repeat one case: programs that move with their connections, each with a random
 * fault at a random moment. No message may be lost, come twice, out of order or with other contents, and never may two places have the program. Exits
 * with 1 if a rule was broken.
 */
import { parseArgs } from 'node:util';
import { Random } from '../random.ts';
import { Tally } from '../tally.ts';
import { caseOf } from './case.ts';
import { play } from './play.ts';

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '20' },
    jobs: { type: 'string', default: '2' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    'case-seed': { type: 'string' },
  },
});

function number(name: 'cases' | 'jobs' | 'seed' | 'case-seed'): number {
  const value = Number(values[name]);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Error(`--${name} is a number, not '${values[name]}'`);
}

/** A line each so many cases. */
const PROGRESS = 50;

const tally = new Tally();

/** False: a rule was broken. */
async function run(seed: number): Promise<boolean> {
  const one = caseOf(seed, new Random(seed));
  try {
    tally.add(`${one.fault}: ${await play(one)}`);
    return true;
  } catch (error) {
    process.stdout.write(`FAILED case ${seed}: ${String(error)}\n${JSON.stringify(one)}\n`);
    return false;
  }
}

async function main(): Promise<number> {
  if (values['case-seed'] !== undefined) return (await run(number('case-seed'))) ? 0 : 1;
  const [cases, seed] = [number('cases'), number('seed')];
  process.stdout.write(`seed ${seed}\n`);
  const seeds = new Random(seed);
  let left = cases;
  let failed = 0;
  const some = async (): Promise<void> => {
    while (left > 0) {
      left -= 1;
      if ((cases - left) % PROGRESS === 0) process.stdout.write(`${cases - left} of ${cases}\n`);
      if (!(await run(seeds.below(2 ** 31)))) failed += 1;
    }
  };
  await Promise.all(Array.from({ length: number('jobs') }, some));
  process.stdout.write(`${tally.lines().join('\n')}\n${cases} moves, seed ${seed}, ${failed} failed\n`);
  return failed === 0 ? 0 : 1;
}

process.exit(await main());
