/**
 * The demo: a VM's RAM and device state leave this process and arrive in another one over rdma:, on a machine that needs no RDMA device.
 * `npm run demo` starts it. Exit code: 0 everything was verified; 1 it was not; 2 the options are wrong; 130, 143 interrupted.
 */
import { MigrationError } from 'rdma-migrate';
import { qemuMissing } from '../qemu/qemu.ts';
import type { DemoContext } from './context.ts';
import { Narrator } from './narrator.ts';
import { type DemoOptions, parseOptions, USAGE } from './options.ts';
import { migrateRealVm } from './real-vm.ts';
import { startReceiver } from './receiver-process.ts';
import { migrateSyntheticVm } from './synthetic-vm.ts';
import { openWorkspace } from './workspace.ts';

const MIB = 2 ** 20;
const EXIT = { verified: 0, failed: 1, usage: 2, SIGINT: 130, SIGTERM: 143 } as const;

type StopSignal = 'SIGINT' | 'SIGTERM';

class Interrupted extends Error {
  readonly exitCode: number;

  constructor(name: StopSignal) {
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

/** Why no real VM is migrated, or undefined. */
function syntheticBecause({ synthetic }: DemoOptions): string | undefined {
  return synthetic ? 'as asked for with --synthetic' : qemuMissing();
}

async function migrate(options: DemoOptions, narrator: Narrator, signal: AbortSignal): Promise<string> {
  const reason = syntheticBecause(options);
  const ramBytes = options.ramBytes ?? (reason === undefined ? 256 : 1024) * MIB;
  if (reason !== undefined) narrator.line(`A synthetic VM is migrated instead of a real one: ${reason}`);
  await using workspace = await openWorkspace(ramBytes);
  const context: DemoContext = { options, ramBytes, narrator, workspace, signal, startReceiver };
  return await (reason === undefined ? migrateRealVm(context) : migrateSyntheticVm(context));
}

async function demo(options: DemoOptions): Promise<number> {
  const narrator = new Narrator(process.stdout);
  const signal = interruption();
  try {
    const verdict = await migrate(options, narrator, signal);
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

function describe(error: unknown): string {
  if (error instanceof MigrationError) return `${error.message} (${error.code}, phase ${error.phase})`;
  return error instanceof Error ? error.message : String(error);
}

function options(): DemoOptions | undefined {
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
