/**
 * `npm run fuzz -- --minutes N [--seed S] [--only NAMES] [--json]`, or `--only NAME --seed S --case N` to repeat one case. What was found goes
 * to stdout, with what repeats it; progress to stderr. Ends with 0; 1: something was found; 2: usage; 130, 143: SIGINT, SIGTERM.
 */
import { availableParallelism } from 'node:os';
import { Command, type CommanderError, Option } from 'commander';
import { listOf, oneOf, wholeNumber } from '../../bench/support/arguments.ts';
import type { ChildPlan } from './child.ts';
import { NATIVE_TARGETS, play } from './children.ts';
import { details, summary } from './report.ts';
import type { Report } from './runner.ts';
import { TARGETS } from './targets/index.ts';

const NAMES = [...NATIVE_TARGETS, ...TARGETS.map(({ name }) => name)];
/** Where more can go wrong, more time is spent. */
const WEIGHTS: Readonly<Record<string, number>> = {
  receiver: 6,
  connections: 3,
  stream: 3,
  import: 3,
  destination: 3,
};
const MOST_SEED = 2 ** 31;

interface Options {
  readonly minutes: number;
  readonly seed?: number;
  readonly only: readonly string[];
  readonly case?: number;
  readonly cases?: number;
  readonly jobs: number;
  readonly json?: boolean;
}

function command(): Command {
  return new Command('npm run fuzz --')
    .description('Feeds hostile input to whatever takes bytes of a peer or a file, until the time is over.')
    .allowExcessArguments(false)
    .showHelpAfterError('(npm run fuzz -- --help lists the options)')
    .option('--minutes <n>', 'how long, in all', wholeNumber(1, 10_000), 1)
    .option('--cases <n>', 'instead of a time: cases of each target', wholeNumber())
    .option('--seed <n>', 'decides every case; default: any, printed', wholeNumber(0, MOST_SEED))
    .addOption(
      new Option('--only <names>', `which targets, of ${NAMES.join(',')}`)
        .argParser(listOf(oneOf(NAMES)))
        .default(NAMES, 'all'),
    )
    .option('--case <n>', 'plays this case of one target alone', wholeNumber(0))
    .option('--jobs <n>', 'targets at a time', wholeNumber(1, 256), availableParallelism())
    .option('--json', 'the report as JSON')
    .exitOverride((error: CommanderError) => process.exit(error.exitCode === 0 ? 0 : 2));
}

/** What each target does in this run. */
function planOf(options: Options, seed: number): (name: string) => ChildPlan {
  const { case: one, cases, minutes, only, jobs } = options;
  if (one !== undefined) return () => ({ seed, first: one, most: 1 });
  if (cases !== undefined) return () => ({ seed, first: 0, most: cases });
  const weight = (name: string): number => WEIGHTS[name] ?? 1;
  const all = only.reduce((sum, name) => sum + weight(name), 0);
  const together = Math.min(jobs, only.length);
  const most = minutes * 60;
  return (name) => ({ seed, first: 0, seconds: Math.min(most, (most * together * weight(name)) / all) });
}

async function fuzz(options: Options, signal: AbortSignal): Promise<readonly Report[]> {
  const seed = options.seed ?? Date.now() % MOST_SEED;
  process.stderr.write(`seed ${seed}\n`);
  const plan = planOf(options, seed);
  // Those that take longest first, so that none is left at the end.
  const waiting = [...options.only].sort((left, right) => (WEIGHTS[right] ?? 1) - (WEIGHTS[left] ?? 1));
  const reports: Report[] = [];
  const work = async (): Promise<void> => {
    for (let name = waiting.shift(); name !== undefined && !signal.aborted; name = waiting.shift()) {
      const report = await play(name, plan(name), signal);
      reports.push(report);
      process.stderr.write(`${summary(report)}\n`);
    }
  };
  await Promise.all(Array.from({ length: options.jobs }, work));
  return reports;
}

async function main(): Promise<number> {
  const parser = command();
  const options = parser.parse().opts<Options>();
  if (options.case !== undefined && (options.only.length !== 1 || options.seed === undefined))
    parser.error('--case needs --seed, and --only with one target.');
  const stop = new AbortController();
  let stopped = 0;
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)
    process.on(signal, () => {
      if (stopped !== 0) process.exit(code); // children end with their channel, or with their case
      stopped = code;
      process.stderr.write(`${signal}: ending after the cases in hand\n`);
      stop.abort();
    });
  const reports = await fuzz(options, stop.signal);
  process.stdout.write(
    options.json ? `${JSON.stringify(reports)}\n` : `${reports.map(details).join('\n\n')}\n`,
  );
  if (reports.some(({ failures }) => failures.length > 0)) return 1;
  return stopped;
}

process.exitCode = await main();
