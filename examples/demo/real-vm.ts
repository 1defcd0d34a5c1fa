/** The demo with a real VM: stock QEMU to stock QEMU, its RAM through rdma:. */
import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { stat } from 'node:fs/promises';
import { fromQemu, toQemu } from 'rdma-migrate';
import { buildGuest } from '../guest/build.ts';
import { type GuestState, verifyGuestRam } from '../guest/verify.ts';
import { loadStream, saveStream } from '../qemu/migrate.ts';
import { Qemu } from '../qemu/qemu.ts';
import { requireEqualFiles } from './compare.ts';
import type { DemoContext } from './context.ts';
import { goesOn, letCount } from './guest-watch.ts';
import { bytes } from './narrator.ts';
import { mayRunAgain, resume, stayPaused } from './resume.ts';
import { requireSameCounts, type Transfer, transfer } from './transfer.ts';

const RAM = 'pc.ram';
/** The RAM block's address in the guest, which QEMU needs when it maps the block itself. */
const RAM_ADDRESS = 0n;

/**
 * Migrates a running VM, and returns the verdict in one line. Everything it starts has ended when it returns.
 * @throws if anything is not as it must be; before the destination has confirmed that it holds the VM, the first QEMU then runs again
 */
export async function migrateRealVm(context: DemoContext): Promise<string> {
  const kernel = context.workspace.at('guest');
  await buildGuest({ output: kernel });
  await using source = await start(context, 'source', { kernel });
  await letCount(context, source);
  const { paused, moved } = await move(context, source);
  const end = await goOn(context, source, { kernel, paused, moved });
  context.narrator.step('End the first QEMU: its VM lives in the second one now');
  await source.close();
  return (
    `all ${paused.pages} pages that the guest writes and every other byte of ${bytes(context.ramBytes)} of RAM went from process ` +
    `${process.pid} to process ${moved.pid} over ${moved.uri}; the guest went on from step ${paused.steps} to ${end.steps}`
  );
}

type Start = { readonly kernel: string; readonly incoming?: string };

async function start(context: DemoContext, name: string, { kernel, incoming }: Start): Promise<Qemu> {
  const { workspace, ramBytes, narrator, signal } = context;
  const ramFile = ramFileOf(context, name);
  narrator.step(
    `Start stock QEMU as the ${name} (software emulation, ${bytes(ramBytes)} of RAM in a shared file)`,
  );
  const folder = workspace.path;
  const defer = incoming === undefined ? {} : { incoming };
  const vm = await Qemu.start({ name, folder, kernel, ramFile, ramBytes, ...defer });
  await closeOnAbort(vm, signal);
  narrator.say(`process ${vm.pid}, RAM file ${ramFile}`);
  return vm;
}

/** So that every wait for the VM ends at once. */
async function closeOnAbort(vm: Qemu, signal: AbortSignal): Promise<void> {
  signal.addEventListener('abort', () => void vm.close(), { once: true });
  if (signal.aborted) await vm.close();
  signal.throwIfAborted();
}

const ramFileOf = ({ workspace }: DemoContext, name: string): string => workspace.at(`${name}.ram`);

interface Moved {
  /** Where the guest was when it was paused. */
  readonly paused: GuestState;
  readonly moved: Transfer;
}

/** From the running VM to its RAM and device state in the other process. A failure here leaves the first QEMU running. */
async function move(context: DemoContext, source: Qemu): Promise<Moved> {
  try {
    const paused = await pause(context, source);
    const sent = { image: context.workspace.at('sent'), ramFiles: { [RAM]: source.ramFile } };
    const moved = await transfer(context, sent, {
      image: context.workspace.at('received'),
      ramFiles: { [RAM]: ramFileOf(context, 'destination') },
    });
    return { paused, moved };
  } catch (error) {
    if (!context.signal.aborted) await (mayRunAgain(error) ? resume(context, source) : stayPaused(context));
    throw error;
  }
}

/** The second QEMU takes over; returns where the guest is when it is paused there. A failure here leaves the first QEMU paused. */
async function goOn(
  context: DemoContext,
  source: Qemu,
  { kernel, paused, moved }: Moved & { readonly kernel: string },
): Promise<GuestState> {
  try {
    requireSameCounts(moved);
    await using destination = await load(context, kernel, paused);
    return await goesOn(context, source, destination, paused);
  } catch (error) {
    if (!context.signal.aborted) stayPaused(context);
    throw error;
  }
}

/** Pauses the VM and makes an image of it, in which pc.ram is QEMU's own RAM file. */
async function pause(context: DemoContext, source: Qemu): Promise<GuestState> {
  const { narrator, workspace, signal } = context;
  narrator.step(
    'Pause the VM over QMP and take its device state (migrate with x-ignore-shared: RAM stays where it is)',
  );
  const file = workspace.at('source.stream');
  await saveStream(source, { file, ignoreShared: true });
  const state = await verifyGuestRam(source.ramFile);
  narrator.say(`paused in pass ${state.pass} at page ${state.cursor} of ${state.pages}, step ${state.steps}`);
  const sharedRam = { [RAM]: source.ramFile };
  await fromQemu(createReadStream(file), workspace.at('sent'), { sharedRam, signal });
  narrator.say(
    `${bytes((await stat(file)).size)} of QEMU stream; the image maps the RAM file in place, nothing is copied`,
  );
  return state;
}

/** The second QEMU, with the RAM file that was received. Its guest does not run yet. */
async function load(context: DemoContext, kernel: string, paused: GuestState): Promise<Qemu> {
  const { narrator, workspace, signal } = context;
  await checkArrived(context, paused);
  const file = workspace.at('destination.stream');
  const output = createWriteStream(file, { mode: 0o600 });
  await toQemu(workspace.at('received'), output, {
    signal,
    ramFiles: { [RAM]: ramFileOf(context, 'destination') },
    ignoreShared: [RAM],
    guestAddresses: { [RAM]: RAM_ADDRESS },
  });
  output.end();
  await once(output, 'close');
  const vm = await start(context, 'destination', { kernel, incoming: 'defer' });
  try {
    await loadStream(vm, { file, ignoreShared: true });
    narrator.say(
      `it has loaded the device state and maps the RAM that was received; it is ${await vm.status()}`,
    );
    return vm;
  } catch (error) {
    await vm.close();
    throw error;
  }
}

async function checkArrived(context: DemoContext, paused: GuestState): Promise<void> {
  const { narrator } = context;
  narrator.step('Check what arrived');
  const [sent, received] = [ramFileOf(context, 'source'), ramFileOf(context, 'destination')];
  await requireEqualFiles(received, sent);
  narrator.say(`${bytes(context.ramBytes)} of RAM are equal byte by byte`);
  const { steps, pages } = await verifyGuestRam(received);
  if (steps !== paused.steps)
    throw new Error(`the guest arrived at step ${steps}, it was paused at ${paused.steps}`);
  narrator.say(`${pages} pages hold what the guest wrote up to step ${steps}: none is lost, stale or torn`);
}
