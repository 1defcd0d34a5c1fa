import { MigrationError } from '../errors.ts';
import type { StatusWord } from '../protocol/status.ts';
import { startOf } from '../qemu/process.ts';
import {
  defaultStateFolder,
  type MigrationRecord,
  pidNamespace,
  Records,
  requireMigrationId,
  wordOf,
} from '../qemu/records.ts';
import { askStatus } from '../qemu/status.ts';
import type { QemuStatusOptions } from './qemu-program.ts';
import type { CommandContext } from './run.ts';
import { tlsOptions } from './tls-options.ts';

const SAYS: Readonly<Record<StatusWord, string>> = {
  taken: 'taken: the guest is the destination’s. End the QEMU at the source, and never let it go on there',
  'not-taken':
    'not-taken: the destination does not have the guest and never will. Let it go on at the source (QMP cont)',
  undecided: 'undecided: the destination is at it still. Let nothing go on, and ask again',
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
  const record = await new Records(options.stateDir ?? defaultStateFolder()).read(id);
  const status = await wordOf(record);
  const { lines, facts } = record === undefined ? NOTHING : await processesOf(record, status);
  reporter.completed({ migrationId: id, status, ...facts }, [SAYS[status], ...lines]);
  requireKnown(id, status);
}

const NOTHING = { lines: [], facts: {} };

/** What is left of the processes that a record names, as far as they can be looked for here. */
async function processesOf(record: MigrationRecord, status: StatusWord) {
  const { pid, start, qmp } = record.qemu;
  const was = `QEMU was process ${pid} (QMP ${qmp})`;
  if (record.pidNamespace !== (await pidNamespace())) {
    const line = `${was} in another PID namespace (${record.pidNamespace}): there this command says more`;
    return { lines: [line], facts: { pid, qmp } };
  }
  const alive = (await startOf(pid)) === start;
  const left = status === 'undecided' && (await startOf(record.receiver.pid)) !== record.receiver.start;
  const line = `${was}, which ${alive ? 'is there' : 'has ended'}`;
  return {
    lines: left ? [line, undecidedFor(record, alive)] : [line],
    facts: { pid, qmp, alive, left },
  };
}

/** Its rdma-migrate has ended before it could say more. */
function undecidedFor({ state, qemu }: MigrationRecord, alive: boolean): string {
  if (state !== 'starting')
    return `its rdma-migrate has ended before the guest could go on: end process ${qemu.pid}, which has not begun to run it, and ask again`;
  return alive
    ? `its rdma-migrate has ended just when the guest was to go on: if query-status says running (QMP ${qemu.qmp}), the guest is here, and must not go on at the source`
    : 'its rdma-migrate has ended just when the guest was to go on, and so has its QEMU: the guest may have run here. What is on its disks says whether, and only then may it go on at the source';
}

function requireKnown(id: string, status: StatusWord): void {
  if (status === 'unknown')
    throw new MigrationError('COMMIT_UNKNOWN', 'commit', `nothing is known there of migration ${id}`);
}
