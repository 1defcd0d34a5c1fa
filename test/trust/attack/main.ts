/**
 * `npm run campaign:tls -- [--cases N] [--seed S] [--jobs N]`, or `--case JSON` to repeat one as it was printed: somebody in between changes one
 * byte of each migration, at another place each time. Prints each breach of promise with its case, progress to stderr, a summary at the end.
 * Exits with 0; 1: something was found; 2: usage.
 */
import { Command, type CommanderError } from 'commander';
import { wholeNumber } from '../../../bench/support/arguments.ts';
import { Tally } from '../../campaign/tally.ts';
import { attackedWays, type Case, drawCases, type Played, play } from './cases.ts';
import { codeOf } from './judge.ts';
import { SecretVm } from './secret-vm.ts';
import type { Way } from './ways.ts';

const PAGES = 16;
const MOST_SEED = 2 ** 31;
const PROGRESS_MS = 10_000;

interface Options {
  readonly cases: number;
  readonly seed?: number;
  readonly jobs: number;
  readonly case?: string;
}

function command(): Command {
  return new Command('npm run campaign:tls --')
    .description(
      'Changes one byte of each of many protected migrations, and looks at what becomes of both ends.',
    )
    .allowExcessArguments(false)
    .showHelpAfterError('(npm run campaign:tls -- --help lists the options)')
    .option('--cases <n>', 'how many', wholeNumber(1, 10_000_000), 1000)
    .option('--seed <n>', 'decides where; default: any, printed', wholeNumber(0, MOST_SEED))
    .option('--jobs <n>', 'cases at a time', wholeNumber(1, 64), 8)
    .option('--case <json>', 'plays this case alone, as it was printed')
    .exitOverride((error: CommanderError) => process.exit(error.exitCode === 0 ? 0 : 2));
}

class Campaign {
  readonly #vm: SecretVm;
  readonly #ways: readonly Way[];
  readonly #tally = new Tally();
  readonly #began = performance.now();
  cases = 0;
  struck = 0;
  found = 0;

  constructor(vm: SecretVm, ways: readonly Way[]) {
    this.#vm = vm;
    this.#ways = ways;
  }

  async one(it: Case): Promise<void> {
    const began = performance.now();
    try {
      const played = await play(this.#vm, this.#ways, it);
      this.#count(it, played);
      if (played.lies.length > 0) this.#tell(it, played.lies.join('; '));
    } catch (error) {
      this.#tell(it, error instanceof Error ? (error.stack ?? error.message) : String(error));
    }
    this.cases += 1;
    if (performance.now() - began > 1_000) this.#tally.add('took more than a second');
  }

  #tell(it: Case, what: string): void {
    this.found += 1;
    process.stdout.write(`FOUND --case '${JSON.stringify(it)}'\n      ${what}\n`);
  }

  #count(it: Case, { strike, outcome }: Played): void {
    const { source, destination, next } = outcome;
    this.struck += strike ? 1 : 0;
    this.#tally.add(`way: ${it.way}`);
    const where = strike
      ? `${strike.part}${strike.connection > 0 ? ' of a rail' : ''} towards the ${strike.towards}`
      : 'over before its place came';
    this.#tally.add(`changed: ${where}`);
    const then = next ? `listening on, next ${codeOf(next)}` : codeOf(destination);
    this.#tally.add(`ended: ${where}: ${codeOf(source)} / ${then}`);
  }

  get progress(): string {
    const seconds = (performance.now() - this.#began) / 1000;
    const each = Math.round((1000 * seconds) / Math.max(this.cases, 1));
    return `${this.cases} cases, ${this.struck} bytes changed, ${this.found} found, ${Math.round(seconds)} s (${each} ms each)`;
  }

  get summary(): string {
    return [...this.#tally.lines(), this.progress].join('\n');
  }
}

async function main(): Promise<number> {
  const options = command().parse().opts<Options>();
  await using vm = await SecretVm.create(PAGES);
  const ways = attackedWays();
  const campaign = new Campaign(vm, ways);
  const seed = options.seed ?? Date.now() % MOST_SEED;
  process.stdout.write(`seed ${seed}\n`);
  const progress = setInterval(() => process.stderr.write(`${campaign.progress}\n`), PROGRESS_MS);
  if (options.case !== undefined) {
    await campaign.one(JSON.parse(options.case) as Case);
  } else {
    const drawn = drawCases(vm, ways, seed);
    let left = options.cases;
    const work = async (): Promise<void> => {
      while (left-- > 0) {
        const { value } = await drawn.next();
        if (value) await campaign.one(value);
      }
    };
    await Promise.all(Array.from({ length: options.jobs }, work));
  }
  clearInterval(progress);
  process.stdout.write(`${campaign.summary}\n`);
  return campaign.found === 0 ? 0 : 1;
}

process.exitCode = await main();
