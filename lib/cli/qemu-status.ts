import { MigrationError } from '../errors.ts';
import type { StatusWord } from '../protocol/status.ts';
import { runState } from '../qemu/migration-status.ts';
import { defaultStateFolder, type Judgement, Records, requireMigrationId } from '../qemu/records.ts';
import { askStatus } from '../qemu/status.ts';
import { QmpClient } from '../qmp/client.ts';
import type { QemuStatusOptions } from './qemu-program.ts';
import type { CommandContext } from './run.ts';
import { tlsOptions } from './tls-options.ts';

const SAYS: Readonly<Record<StatusWord, string>> = {
  taken: 'taken: the guest is the destination’s. End the QEMU at the source, and never let it go on there',
  'not-taken':
    'not-taken: the destination does not have the guest and never will. Let it go on at the source (QMP cont)',
  undecided: 'undecided: let nothing go on, and ask again',
  unknown:
    'unknown: nothing is known here of that migration. Ask where it went to, with its --state-dir; let nothing go on before',
};

/** `rdma-migrate qemu status`: what became of a migration. */
export async function qemuStatus(
  { reporter, signal }: CommandContext,
  id: string,
  uri: string | undefined,
  options: QemuStatusOptions,
): Promise<void> {
  requireMigrationId(id);
  if (uri !== undefined) {
    const status = await askStatus(uri, id, { provider: options.provider, ...tlsOptions(options) }, signal);
    reporter.completed({ migrationId: id, status }, [SAYS[status]]);
    requireKnown(id, status);
    return;
  }
  const judgement = await judge(options.stateDir ?? defaultStateFolder(), id, signal);
  const status = judgement?.word ?? 'unknown';
  const { lines, facts } = judgement === undefined ? NOTHING : processesOf(judgement);
  reporter.completed({ migrationId: id, status, ...facts }, [SAYS[status], ...lines]);
  requireKnown(id, status);
}

const NOTHING = { lines: [], facts: {} };

/** A judgement, and what QEMU says of the guest where that decides. */
type Settled = Judgement & { readonly guest?: string };

/** Asks QEMU, and writes down what it says, where its rdma-migrate has ended just when the guest was to go on. */
async function judge(stateDir: string, id: string, signal: AbortSignal): Promise<Settled | undefined> {
  const records = new Records(stateDir);
  const judgement = await records.judge(id);
  const { record, receiver, qemu } = judgement ?? {};
  if (record?.state !== 'starting' || receiver !== 'dead' || qemu !== 'alive') return judgement;
  const guest = await guestOf(record.qemu.qmp, signal);
  if (guest !== 'running') return { ...(judgement as Judgement), guest };
  await records.write({ ...record, state: 'taken' });
  return { ...(judgement as Judgement), guest, word: 'taken' };
}

/** What `query-status` says. */
async function guestOf(socket: string, signal: AbortSignal): Promise<string> {
  try {
    await using qmp = await QmpClient.connect({ socket, signal });
    return await runState(qmp);
  } catch (error) {
    signal.throwIfAborted();
    return `not known: ${(error as Error).message}`;
  }
}

/** What is left of the processes that a record names, as far as they can be looked for here. */
function processesOf({ word, record, receiver, qemu, guest }: Settled) {
  const { pid, qmp } = record.qemu;
  const was = `QEMU was process ${pid} (QMP ${qmp})`;
  if (qemu === 'unknown') return { lines: [elsewhere(was, record.state)], facts: { pid, qmp } };
  const alive = qemu === 'alive';
  const left = word === 'undecided' && receiver === 'dead';
  const line = `${was}, which ${alive ? 'is there' : 'has ended'}`;
  return {
    lines: left ? [line, undecidedFor(record, guest)] : [line],
    facts: { pid, qmp, alive, left, ...(guest !== undefined && { guest }) },
  };
}

function elsewhere(was: string, state: Judgement['record']['state']): string {
  const ended =
    state === 'receiving'
      ? 'the destination does not have the guest, for nothing had let it go on'
      : 'what is on its disks says whether the guest has run';
  const there = `${was} on another host, in another container or before a reboot: there this command says more`;
  if (state === 'taken' || state === 'not-taken') return there;
  return `${there}. If that host or container has ended since, so has all that ran in it; then ${ended}`;
}

/** Its rdma-migrate has ended before it could say more. */
function undecidedFor({ state, qemu }: Judgement['record'], guest: string | undefined): string {
  if (state !== 'starting')
    return `its rdma-migrate has ended before the guest could go on: end process ${qemu.pid}, which has not begun to run it, and ask again`;
  return guest === undefined
    ? 'its rdma-migrate has ended just when the guest was to go on, and so has its QEMU: the guest may have run here. What is on its disks says whether, and only then may it go on at the source'
    : `its rdma-migrate has ended just when the guest was to go on, and QEMU says ${guest}. If it says paused or prelaunch, and nobody has stopped it there, it has not run: QMP cont lets it go on here, or end process ${qemu.pid} and let it go on at the source. Never both`;
}

function requireKnown(id: string, status: StatusWord): void {
  if (status === 'unknown')
    throw new MigrationError('COMMIT_UNKNOWN', 'commit', `nothing is known there of migration ${id}`);
}
