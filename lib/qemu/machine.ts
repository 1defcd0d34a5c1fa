/** What a QEMU tells of its machine over QMP. Its answers are those of another program: nothing is believed that cannot be parsed. */
import { z } from 'zod';
import { MigrationError } from '../errors.ts';
import type { QmpClient } from '../qmp/client.ts';
import type { RamBlockLayout, VmLayout } from '../ram/vm.ts';

/** That of x86 machines; QEMU gives it only in the stream, and only for targets that can have others. */
const PAGE_SIZE = 4096;
const MACHINE_SUFFIX = '-machine';
/** More blocks than any machine has: firmware, video and one for each DIMM. */
const MOST_BLOCKS = 4096;

const name = z.string().min(1).max(255);

/** A RAM block as QEMU lists it. */
export interface ListedBlock extends RamBlockLayout {
  /** Where QEMU has it in its own memory; absent: it does not say. */
  readonly hostAddress?: bigint;
}

export interface QemuMachine extends VmLayout {
  readonly blocks: readonly ListedBlock[];
}

/**
 * Machine type and RAM blocks, without stopping or slowing the guest: `qom-get /machine type`, and HMP's `info ramblock`, which lists
 * the blocks in the order of the migration stream. QEMU offers no QMP command for that list.
 * @throws MigrationError GUEST_ERROR if the answer cannot be parsed; what the QMP client throws
 */
export async function describeMachine(qmp: QmpClient): Promise<QemuMachine> {
  const type = parsed(name, 'qom-get', await qmp.execute('qom-get', { path: '/machine', property: 'type' }));
  const listed = await qmp.execute('human-monitor-command', { 'command-line': 'info ramblock' });
  const machine = type.endsWith(MACHINE_SUFFIX) ? type.slice(0, -MACHINE_SUFFIX.length) : type;
  return {
    machine,
    pageSize: PAGE_SIZE,
    blocks: parseRamBlocks(parsed(z.string(), 'info ramblock', listed)),
  };
}

/**
 * Rows of `info ramblock`: name, page size, offset, used length, total length, host address.
 * @throws MigrationError GUEST_ERROR
 */
export function parseRamBlocks(table: string): ListedBlock[] {
  const rows = table.split(/\r?\n/).slice(1);
  const blocks = rows.filter((row) => row.trim() !== '').map(parseRow);
  const names = new Set(blocks.map((block) => block.name));
  if (blocks.length === 0 || blocks.length > MOST_BLOCKS || names.size !== blocks.length)
    throw notUnderstood('list of RAM blocks', table);
  return blocks;
}

const HEX = '0x[0-9a-f]{1,16}';
const ROW = new RegExp(
  `^\\s*(\\S{1,255})\\s+\\d+\\s+[KMG]iB\\s+${HEX}\\s+(${HEX})\\s+${HEX}(?:\\s+(${HEX}))?(?:\\s|$)`,
);

function parseRow(row: string): ListedBlock {
  const [, block, used, address] = ROW.exec(row) ?? [];
  if (block === undefined || used === undefined || BigInt(used) === 0n)
    throw notUnderstood('list of RAM blocks', row);
  return {
    name: block,
    length: BigInt(used),
    ...(address !== undefined && { hostAddress: BigInt(address) }),
  };
}

/** What a QMP command has returned. @throws MigrationError GUEST_ERROR: it is not that */
export function parsed<T>(schema: z.ZodType<T>, command: string, answer: unknown): T {
  const result = schema.safeParse(answer);
  if (result.success) return result.data;
  throw notUnderstood(`answer to ${command}`, JSON.stringify(answer) ?? 'nothing');
}

export function notUnderstood(what: string, text: string): MigrationError {
  const message = `cannot parse QEMU's ${what}: ${JSON.stringify(text.slice(0, 400))}`;
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
