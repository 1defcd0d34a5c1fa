/** The command lines of the benchmarks: one way to read options, to say what is wrong with them, and to end. */
import { Command, InvalidArgumentError, type OptionValues } from 'commander';
import { cleanUp, endOnSignals } from './leftovers.ts';

const EXIT_FAILED = 1;
const EXIT_USAGE = 2;

/** A parser of whole numbers from `least` to `most`. */
export function wholeNumber(least = 1, most = Number.MAX_SAFE_INTEGER): (text: string) => number {
  return (text) => {
    const value = /^\d{1,16}$/.test(text) ? Number(text) : Number.NaN;
    if (value >= least && value <= most) return value;
    const range = most === Number.MAX_SAFE_INTEGER ? `${least} or more` : `${least} to ${most}`;
    throw new InvalidArgumentError(`Expected a whole number, ${range}.`);
  };
}

/** A parser of lists such as `1,2,4`; each part is read by `one`. */
export function listOf<T>(one: (text: string) => T): (text: string) => T[] {
  return (text) => text.split(',').map((part) => one(part.trim()));
}

/** A parser of one of these words. */
export function oneOf<T extends string>(words: readonly T[]): (text: string) => T {
  return (text) => {
    const word = words.find((known) => known === text);
    if (word === undefined) throw new InvalidArgumentError(`Expected one of ${words.join(', ')}.`);
    return word;
  };
}

/** The command of one benchmark. `name`: its script of package.json. */
export function benchCommand(name: string, description: string): Command {
  return new Command(`npm run ${name} --`)
    .description(description)
    .allowExcessArguments(false)
    .showHelpAfterError(`(npm run ${name} -- --help lists the options)`);
}

/**
 * Reads the command line, runs the benchmark and ends the process: 0; 1 when it failed, with one line that says why (DEBUG=1: and where);
 * 2 for a wrong command line; 130 or 143 after SIGINT or SIGTERM. Children and files of {@link leftovers} are gone by then.
 */
export async function runBench<O extends OptionValues>(
  command: Command,
  body: (options: O) => Promise<void>,
): Promise<void> {
  endOnSignals();
  command.exitOverride(({ exitCode }) => process.exit(exitCode === 0 ? 0 : EXIT_USAGE));
  try {
    command.parse();
    await body(command.opts<O>());
  } catch (error) {
    console.error(`error: ${error instanceof Error ? error.message : String(error)}`);
    if (process.env.DEBUG) console.error(error);
    process.exitCode = EXIT_FAILED;
  }
  cleanUp();
  process.exit();
}
