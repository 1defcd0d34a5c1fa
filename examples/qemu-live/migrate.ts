/** One live migration from a QEMU to another, with the source's end in this process, and what becomes of the guest when it fails. */
import {
  type DirtyTracker,
  type LiveOptions,
  MigrationError,
  type MigrationResult,
  MigrationSource,
  type Phase,
  type RamBlock,
} from 'rdma-migrate';
import type { DestinationProcess } from '../destination/process.ts';
import type { Bench, Vm } from './bench.ts';
import type { DestinationJob } from './destination.ts';
import { type Observation, Observer } from './observer.ts';
import { OutgoingVm } from './outgoing.ts';

/** The end of a process is noticed later than the end of its connection. */
const REASON_MS = 1_000;
const LOADED_MS = 10_000;

export interface MoveOptions {
  readonly uri: string;
  readonly tracker: (vm: Vm, blocks: readonly RamBlock[]) => Promise<DirtyTracker>;
  readonly live: LiveOptions;
  readonly pinAll: boolean;
  readonly maxBandwidth: bigint;
  readonly startDestination: (job: DestinationJob) => Promise<DestinationProcess>;
  /** The compiled worker of {@link Observer}, where this module is not compiled itself. */
  readonly observerModule?: URL;
  readonly onSource?: (source: MigrationSource, destination: DestinationProcess) => void;
  /** Cancels this migration. */
  readonly signal?: AbortSignal;
}

/** Something that happens to a migration from outside. */
export interface Disturbance {
  readonly kind: 'cancel' | 'kill';
  /** Counted from here. */
  readonly phase: Phase;
  readonly afterMs: number;
}

export interface Moved {
  readonly moved: true;
  /** The source's account; absent if the source could not know that the destination has the VM, and it was found there. */
  readonly result?: MigrationResult;
  readonly seen: Observation;
  readonly pid: number;
}

export interface Stayed {
  readonly moved: false;
  readonly error: MigrationError;
  /** What the destination reported. */
  readonly reason?: string;
}

/**
 * Moves the guest of `from` to `to`. When it resolves exactly one of the two runs the guest, and which one is known.
 * @throws if even that cannot be achieved
 */
export async function move(
  bench: Bench,
  { from, to }: { readonly from: Vm; readonly to: Vm },
  options: MoveOptions,
  disturbance?: Disturbance,
): Promise<Moved | Stayed> {
  const job: DestinationJob = {
    qmpSocket: to.qmpSocket,
    ramFiles: to.ramFiles,
    folder: bench.options.folder,
    uri: options.uri,
  };
  await using destination = await options.startDestination(job);
  await using observer = new Observer(
    { source: from.qemu.ramFile, destination: to.qemu.ramFile },
    options.observerModule,
  );
  await observer.started();
  try {
    const result = await send(bench, from, { destination, options, disturbance });
    await goesOn(destination, to);
    return { moved: true, result, seen: await observer.finish(), pid: destination.pid };
  } catch (cause) {
    bench.options.signal.throwIfAborted();
    const error =
      cause instanceof MigrationError
        ? cause
        : new MigrationError('INTERNAL', 'ram', String(cause), { cause });
    if (error.code === 'COMMIT_UNKNOWN' && (await takeOver(bench, from, to, destination))) {
      return { moved: true, seen: await observer.finish(), pid: destination.pid };
    }
    const reason = await reasonOf(destination);
    return { moved: false, error, ...(reason === undefined ? {} : { reason }) };
  }
}

interface Sending {
  readonly destination: DestinationProcess;
  readonly options: MoveOptions;
  readonly disturbance: Disturbance | undefined;
}

async function send(
  bench: Bench,
  from: Vm,
  { destination, options, disturbance }: Sending,
): Promise<MigrationResult> {
  const { live, pinAll, maxBandwidth, tracker } = options;
  await using vm = await OutgoingVm.open({
    qmp: from.qemu.qmp,
    ramFiles: from.ramFiles,
    folder: bench.options.folder,
    tracker: (blocks) => tracker(from, blocks),
  });
  const cancel = new AbortController();
  const source = new MigrationSource(vm, destination.uri, { live, pinAll, maxBandwidth, commit: 'require' });
  options.onSource?.(source, destination);
  const timers: NodeJS.Timeout[] = [];
  source.on('phase', (entered) => {
    if (entered !== disturbance?.phase) return;
    timers.push(setTimeout(() => disturb(disturbance, cancel, destination), disturbance.afterMs));
  });
  try {
    const signals = [cancel.signal, bench.options.signal, ...(options.signal ? [options.signal] : [])];
    return await source.migrate({ signal: AbortSignal.any(signals) });
  } finally {
    for (const timer of timers) clearTimeout(timer);
  }
}

function disturb({ kind }: Disturbance, cancel: AbortController, destination: DestinationProcess): void {
  if (kind === 'kill') destination.kill();
  else cancel.abort(new Error('cancelled by the user'));
}

/** The VM is the destination's. If its process has died meanwhile, QEMU has the VM anyway, and must be told to run it. */
async function goesOn(destination: DestinationProcess, to: Vm): Promise<void> {
  try {
    await destination.arrived;
  } catch {
    await to.qemu.execute('cont');
  }
}

/**
 * The source does not know whether the destination has the VM. QEMU there knows: either it has loaded the VM whole, or, with its input
 * ended, it never will. It is ended before the guest goes on here, so that a VM never runs twice.
 */
async function takeOver(bench: Bench, from: Vm, to: Vm, destination: DestinationProcess): Promise<boolean> {
  const told = await destination.arrived.then(
    () => true,
    () => false,
  );
  if (told || (await hasLoaded(to))) {
    if (!told) await to.qemu.execute('cont');
    return true;
  }
  await bench.end(to);
  await from.qemu.execute('cont');
  return false;
}

/** Its destination process has ended: QEMU reads what is left in the socket, then it has all of the VM, or ends. */
async function hasLoaded({ qemu }: Vm): Promise<boolean> {
  const state = (): Promise<string | undefined> =>
    qemu.status().then(
      (status) => (status === 'inmigrate' ? undefined : status),
      () => 'ended',
    );
  const asked = (async () => ((await qemu.execute('query-migrate')) as { status?: string }).status)();
  const loading = await asked.catch(() => undefined);
  if (loading === undefined) return (await state()) === 'paused';
  const status = await qemu.waitUntil('the VM to be loaded', state, LOADED_MS).catch(() => 'ended');
  return status === 'paused' || status === 'running';
}

async function reasonOf(destination: DestinationProcess): Promise<string | undefined> {
  const told = destination.arrived.then(
    () => undefined,
    (error: Error) => error.message,
  );
  const grace = new Promise<undefined>((resolve) => {
    setTimeout(() => resolve(undefined), REASON_MS).unref();
  });
  return Promise.race([told, grace]);
}
