/** What a running QEMU tells of its machine over QMP. */
import { MigrationError, type QmpClient, type RamBlockLayout, type VmLayout } from 'rdma-migrate';
import { z } from 'zod';

/** That of x86 machines; QEMU gives it only in the stream, and only for targets that can have others. */
const PAGE_SIZE = 4096;
const MACHINE_SUFFIX = '-machine';

const name = z.string().min(1).max(255);

/**
 * Machine type and RAM blocks, without stopping or slowing the guest: `qom-get /machine type`, and HMP's `info ramblock`, which lists
 * the blocks in the order of the migration stream. QEMU offers no QMP command for that list.
 * @throws MigrationError GUEST_ERROR if the answer cannot be parsed; what the QMP client throws
 */
export async function describeMachine(qmp: QmpClient): Promise<VmLayout> {
  const type = name.parse(await qmp.execute('qom-get', { path: '/machine', property: 'type' }));
  const table = z
    .string()
    .parse(await qmp.execute('human-monitor-command', { 'command-line': 'info ramblock' }));
  const machine = type.endsWith(MACHINE_SUFFIX) ? type.slice(0, -MACHINE_SUFFIX.length) : type;
  return { machine, pageSize: PAGE_SIZE, blocks: parseRamBlocks(table) };
}

/**
 * Rows of `info ramblock`: name, page size, offset, used length, total length, host address.
 * @throws MigrationError GUEST_ERROR
 */
export function parseRamBlocks(table: string): RamBlockLayout[] {
  const rows = table.split(/\r?\n/).slice(1);
  const blocks = rows.filter((row) => row.trim() !== '').map(parseRow);
  if (blocks.length === 0) throw notUnderstood(table);
  return blocks;
}

function parseRow(row: string): RamBlockLayout {
  const [, block, used] = /^\s*(\S+)\s+\S+\s+[KMG]iB\s+0x[0-9a-f]+\s+(0x[0-9a-f]+)\s/.exec(row) ?? [];
  if (block === undefined || used === undefined) throw notUnderstood(row);
  return { name: block, length: BigInt(used) };
}

function notUnderstood(text: string): MigrationError {
  const message = `cannot parse QEMU's list of RAM blocks: ${JSON.stringify(text)}`;
  return new MigrationError('GUEST_ERROR', 'configure', message);
}

/** Why a VM with one layout is not the VM with the other, or undefined. */
export function difference(one: VmLayout, other: VmLayout): string | undefined {
  if (one.machine !== other.machine) return `machine ${one.machine} and ${other.machine}`;
  if (one.pageSize !== other.pageSize) return `pages of ${one.pageSize} and ${other.pageSize} bytes`;
  const [ours, theirs] = [blocksOf(one), blocksOf(other)];
  return ours === theirs ? undefined : `RAM blocks ${ours} and ${theirs}`;
}

const blocksOf = ({ blocks }: VmLayout): string =>
  blocks.map((block) => `${block.name}:${block.length}`).join(' ');
