import { MigrationError } from '../errors.ts';
import type { StatusWord } from '../protocol/status.ts';
import { startOf } from '../qemu/process.ts';
import { defaultStateFolder, Records, requireMigrationId, wordOf } from '../qemu/records.ts';
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
    return;
  }
  const record = await new Records(options.stateDir ?? defaultStateFolder()).read(id);
  const status = await wordOf(record);
  const alive = record !== undefined && (await startOf(record.qemu.pid)) === record.qemu.start;
  const where =
    record &&
    `QEMU was process ${record.qemu.pid} (QMP ${record.qemu.qmp}), which ${alive ? 'is there' : 'has ended'}`;
  const left =
    status === 'undecided' && record && (await startOf(record.receiver.pid)) !== record.receiver.start
      ? `its rdma-migrate has ended before it was decided: end process ${record.qemu.pid}, which may have the guest, and ask again`
      : undefined;
  reporter.completed(
    {
      migrationId: id,
      status,
      ...(record && { pid: record.qemu.pid, qmp: record.qemu.qmp, alive, left: left !== undefined }),
    },
    [SAYS[status], ...[where, left].filter((line) => line !== undefined)],
  );
  if (status === 'unknown')
    throw new MigrationError('COMMIT_UNKNOWN', 'commit', `nothing is known here of migration ${id}`);
}
