/**
 * Migrates a running guest from one stock QEMU into another with both ends in processes of their own, once or many times, and checks all of
 * it. `npm run demo:live` starts it. Exit code: 0 everything was verified; 1 it was not; 2 the options are wrong; 130, 143 interrupted.
 */
import { MigrationError } from 'rdma-migrate';
import { bytes, Narrator } from '../demo/narrator.ts';
import { openWorkspace } from '../demo/workspace.ts';
import { qemuMissing } from '../qemu/qemu.ts';
import { type LiveDemoOptions, parseOptions, USAGE } from './options.ts';
import { Summary, tellMoved, turnJson, turnLine } from './report.ts';
import { soak, type Turn } from './soak.ts';

const EXIT = { verified: 0, failed: 1, usage: 2, SIGINT: 130, SIGTERM: 143 } as const;

class Interrupted extends Error {
  readonly exitCode: number;

  constructor(name: 'SIGINT' | 'SIGTERM') {
    super(`interrupted by ${name}`);
    this.exitCode = EXIT[name];
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

async function demo(options: LiveDemoOptions): Promise<number> {
  const narrator = new Narrator(options.json ? process.stderr : process.stdout);
  const signal = interruption();
  try {
    const missing = qemuMissing();
    if (missing !== undefined) throw new MigrationError('IO_ERROR', 'configure', missing);
    await run(options, narrator, signal);
    narrator.line(`\nVERIFIED in ${narrator.seconds.toFixed(1)} s.`);
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

async function run(options: LiveDemoOptions, narrator: Narrator, signal: AbortSignal): Promise<void> {
  await using workspace = await openWorkspace(options.ramBytes);
  const summary = new Summary();
  narrator.step(
    `Start a stock QEMU (software emulation, ${bytes(options.ramBytes)} of RAM in a shared file) and let its guest run`,
  );
  const tally = await soak(
    options,
    { folder: workspace.path, signal },
    {
      onStart: ({ qemu }) => announce(narrator, options, qemu.pid),
      onSource: (source) => source.on('notice', (message) => narrator.say(message)),
      onTurn: (turn) => {
        summary.add(turn);
        tell(narrator, options, turn);
      },
    },
  );
  for (const line of summary.lines(tally)) narrator.say(line);
}

function announce(narrator: Narrator, { regionBytes, repeat, chaos, seed }: LiveDemoOptions, pid = 0): void {
  narrator.say(
    `process ${pid}; the guest rewrites ${bytes(regionBytes)} for ever and counts on its serial port`,
  );
  const times = repeat === 1 ? 'once' : `${repeat} times, each time into a new QEMU`;
  narrator.step(
    `Migrate the running guest, ${times}${chaos ? `, half of them disturbed (--seed ${seed})` : ''}`,
  );
}

function tell(narrator: Narrator, { json, repeat }: LiveDemoOptions, turn: Turn): void {
  if (json) process.stdout.write(`${turnJson(turn)}\n`);
  if (repeat > 1 || !turn.ending.moved) narrator.say(turnLine(turn));
  else tellMoved(narrator, turn.ending);
}

function describe(error: unknown): string {
  if (error instanceof MigrationError) return `${error.message} (${error.code}, phase ${error.phase})`;
  return error instanceof Error ? error.message : String(error);
}

function options(): LiveDemoOptions | undefined {
  try {
    return parseOptions(process.argv.slice(2));
  } catch (error) {
    console.error((error as Error).message);
    return undefined;
  }
}

const chosen = options();
if (chosen?.help) console.log(USAGE);
process.exitCode = chosen === undefined ? EXIT.usage : chosen.help ? EXIT.verified : await demo(chosen);
