/** One live migration by the two commands, and what becomes of the guest when it fails: what an operator would do, and see. */
import type { ErrorCode, MigrationResult, Phase } from 'rdma-migrate';
import type { Bench, Receiver } from './bench.ts';
import type { CommandProcess, Ended, Line } from './command.ts';
import { type Observation, Observer } from './observer.ts';
import type { Vm } from './vm.ts';

const COMMIT_UNKNOWN = 8;
const GONE_MS = 10_000;
const ASK_TIMES = 50;

export interface MoveOptions {
  /** Options of `rdma-migrate qemu move`. */
  readonly args: readonly string[];
  /** The compiled worker of {@link Observer}, where this module is not compiled itself. */
  readonly observerModule?: URL;
  readonly disturbance?: Disturbance;
  /** Hears the address of the migration's page, where the options ask for one. */
  readonly onPage?: (url: string) => void;
}

/** Something that happens to a migration from outside. */
export interface Disturbance {
  /** Ctrl-C at the source, or the end of the destination's command, as by a crash. */
  readonly kind: 'cancel' | 'kill';
  /** Counted from here. */
  readonly phase: Phase;
  readonly afterMs: number;
  /** The destination's QEMU stands still from the first pass on, so that nothing is decided before this has happened. */
  readonly holds?: boolean;
}

export interface Moved {
  readonly moved: true;
  /** The source's account; absent if the source had to ask the destination, or the operator had to. */
  readonly result?: MigrationResult;
  readonly seen: Observation;
  readonly pid: number;
  readonly settledBy?: 'command' | 'operator';
}

export interface Stayed {
  readonly moved: false;
  readonly code: ErrorCode;
  readonly phase: Phase;
  readonly message: string;
  /** What the destination reported. */
  readonly reason?: string;
  readonly settledBy?: 'operator';
}

/**
 * Moves the guest of a VM into the QEMU of a receiver. When it resolves exactly one of the two runs the guest, and which one is known.
 * @throws if even that cannot be achieved
 */
export async function move(
  bench: Bench,
  from: Vm,
  to: Receiver,
  options: MoveOptions,
): Promise<Moved | Stayed> {
  const files = { source: from.ramFile, destination: to.vm.ramFile };
  await using observer = new Observer(files, options.observerModule);
  await observer.started();
  const source = bench.run(['qemu', 'move', to.uri, '--qmp', from.qmpSocket, ...options.args]);
  source.onLine(({ event, url }) => {
    if (event === 'page') options.onPage?.(String(url));
  });
  const calm = options.disturbance ? disturb(options.disturbance, source, to) : () => {};
  const ended = await source.ended.finally(calm);
  bench.options.signal.throwIfAborted();
  if (ended.code === 0) {
    const received = await to.command.ended;
    const settled = ended.last?.settled === true;
    if (received.code !== 0 && received.code !== null)
      throw new Error(`the source says moved, the destination ${JSON.stringify(received.last)}`);
    return {
      moved: true,
      ...(!settled && { result: ended.last as unknown as MigrationResult }),
      ...(settled && { settledBy: 'command' }),
      seen: await observer.finish(),
      pid: to.vm.pid,
    };
  }
  if (ended.code !== COMMIT_UNKNOWN) return await stayed(ended, to);
  const { migrationId } = (ended.last?.details ?? {}) as { migrationId: string };
  if ((await settle(bench, migrationId)) === 'taken')
    return { moved: true, settledBy: 'operator', seen: await observer.finish(), pid: to.vm.pid };
  await from.execute('cont');
  return { ...(await stayed(ended, to)), settledBy: 'operator' };
}

/** What it gives back ends it. */
function disturb(
  { kind, phase, afterMs, holds = false }: Disturbance,
  source: CommandProcess,
  { command, vm }: Receiver,
): () => void {
  let timer: NodeJS.Timeout | undefined;
  let held = false;
  const act = (): void => (kind === 'kill' ? command.kill('SIGKILL') : source.kill('SIGINT'));
  source.onLine((line) => {
    if (line.event !== 'phase') return;
    if (holds && !held && line.phase === 'ram') {
      held = true;
      vm.signal('SIGSTOP');
    }
    if (line.phase === phase) timer ??= setTimeout(act, afterMs);
  });
  return () => {
    clearTimeout(timer);
    if (held) vm.signal('SIGCONT');
  };
}

/** The guest is the source's: nothing of the destination may be left. */
async function stayed({ last }: Ended, { command, vm }: Receiver): Promise<Stayed> {
  command.kill('SIGTERM'); // a source that was cancelled before it came is waited for still
  const received = await command.ended;
  if (!(await vm.goesAway(GONE_MS)))
    throw new Error(`the guest stayed, and QEMU ${vm.pid} that waited for it is there still`);
  const { code = 'INTERNAL', phase = 'ram', message = '' } = last ?? ({} as Partial<Line>);
  const reason = received.last?.event === 'error' ? String(received.last.message) : undefined;
  return {
    moved: false,
    code: code as ErrorCode,
    phase: phase as Phase,
    message: String(message),
    ...(reason !== undefined && { reason }),
  };
}

/** What an operator does at the destination after COMMIT_UNKNOWN. */
async function settle(bench: Bench, migrationId: string): Promise<'taken' | 'not-taken'> {
  for (let time = 0; time < ASK_TIMES; time++) {
    const { last } = await bench.run(['qemu', 'status', migrationId, '--state-dir', bench.stateDir]).ended;
    if (last?.status === 'taken' || last?.status === 'not-taken') return last.status;
    if (last?.status !== 'undecided')
      throw new Error(`nobody knows of migration ${migrationId}: ${JSON.stringify(last)}`);
    if (last.left !== true) continue;
    // Its command has ended before it was decided: as it says, that QEMU is to be ended.
    try {
      process.kill(Number(last.pid), 'SIGKILL');
    } catch {} // it has ended meanwhile
    // It was to let the guest go on, and has not: that is not written down anywhere.
    if (last.guest === 'paused' || last.guest === 'prelaunch') return 'not-taken';
  }
  throw new Error(`migration ${migrationId} is never decided`);
}
