/**
 * The demo: a VM's RAM and device state leave this process and arrive in another one over rdma:, on a machine that needs no RDMA device.
 * `npm run demo` starts it. Exit code: 0 everything was verified; 1 it was not; 2 the options are wrong; 130, 143 interrupted.
 */
import { startDestination } from '../destination/process.ts';
import { qemuMissing } from '../qemu/qemu.ts';
import { runDemo } from './command.ts';
import type { DemoContext } from './context.ts';
import type { Narrator } from './narrator.ts';
import { type DemoOptions, parseOptions, USAGE } from './options.ts';
import { migrateRealVm } from './real-vm.ts';
import { migrateSyntheticVm } from './synthetic-vm.ts';
import { openWorkspace } from './workspace.ts';

const MIB = 2 ** 20;
const RECEIVER = new URL('./receiver.js', import.meta.url);

/** Why no real VM is migrated, or undefined. */
function syntheticBecause({ synthetic }: DemoOptions): string | undefined {
  return synthetic ? 'as asked for with --synthetic' : qemuMissing();
}

async function run(options: DemoOptions, narrator: Narrator, signal: AbortSignal): Promise<string> {
  const reason = syntheticBecause(options);
  const ramBytes = options.ramBytes ?? (reason === undefined ? 256 : 1024) * MIB;
  if (reason !== undefined) narrator.line(`A synthetic VM is migrated instead of a real one: ${reason}`);
  await using workspace = await openWorkspace(ramBytes);
  const startReceiver: DemoContext['startReceiver'] = (job) => startDestination(RECEIVER, job);
  const context: DemoContext = { options, ramBytes, narrator, workspace, signal, startReceiver };
  return await (reason === undefined ? migrateRealVm(context) : migrateSyntheticVm(context));
}

await runDemo({ usage: USAGE, parseOptions, run });
