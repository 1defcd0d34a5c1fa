/** A demo as a command: its options, Ctrl-C, the verdict and the exit code. */
import { MigrationError } from 'rdma-migrate';
import { Narrator } from './narrator.ts';

const EXIT = { verified: 0, failed: 1, usage: 2, SIGINT: 130, SIGTERM: 143 } as const;

export interface Demo<Options extends { readonly help: boolean }> {
  readonly usage: string;
  /** Throws an error that says what is wrong with the arguments. */
  parseOptions(args: readonly string[]): Options;
  /** Where the narration goes; standard output unless that is needed for something else. */
  output?(options: Options): NodeJS.WritableStream;
  /** Resolves with what was verified; throws when it was not. */
  run(options: Options, narrator: Narrator, signal: AbortSignal): Promise<string>;
}

class Interrupted extends Error {
  readonly exitCode: number;

  constructor(name: 'SIGINT' | 'SIGTERM') {
    super(`interrupted by ${name}`);
    this.exitCode = EXIT[name];
  }
}

/** Runs it with the arguments of this process, whose exit code it sets. */
export async function runDemo<Options extends { readonly help: boolean }>(
  demo: Demo<Options>,
): Promise<void> {
  const options = optionsOf(demo);
  if (options?.help) console.log(demo.usage);
  process.exitCode =
    options === undefined ? EXIT.usage : options.help ? EXIT.verified : await tell(demo, options);
}

function optionsOf<Options extends { readonly help: boolean }>(demo: Demo<Options>): Options | undefined {
  try {
    return demo.parseOptions(process.argv.slice(2));
  } catch (error) {
    console.error((error as Error).message);
    return undefined;
  }
}

async function tell<Options extends { readonly help: boolean }>(
  demo: Demo<Options>,
  options: Options,
): Promise<number> {
  const narrator = new Narrator(demo.output?.(options) ?? process.stdout);
  const signal = interruption();
  try {
    const verdict = await demo.run(options, narrator, signal);
    narrator.line(`\nVERIFIED in ${narrator.seconds.toFixed(1)} s: ${verdict}.`);
    return EXIT.verified;
  } catch (error) {
    if (signal.reason instanceof Interrupted) {
      narrator.line(`\nCANCELLED: ${signal.reason.message}; everything that the demo started has ended.`);
      return signal.reason.exitCode;
    }
    narrator.line(`\nFAILED: ${describe(error)}`);
    return EXIT.failed;
  }
}

/** Ctrl-C comes more than once, from the terminal and from npm: only the first one counts. */
function interruption(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const) {
    process.on(name, () => controller.abort(new Interrupted(name)));
  }
  return controller.signal;
}

function describe(error: unknown): string {
  if (error instanceof MigrationError) return `${error.message} (${error.code}, phase ${error.phase})`;
  return error instanceof Error ? error.message : String(error);
}
