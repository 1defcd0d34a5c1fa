/** Where a QEMU whose `info ramblock` does not say it (before 8.0) has a RAM block in its own memory: by the guest's addresses. */
import { z } from 'zod';
import type { QmpClient } from '../qmp/client.ts';
import { type ListedBlock, notUnderstood, parsed } from './machine.ts';

/** A part of a block that the guest sees: its address there, and where in the block that is. */
export interface GuestRange {
  readonly name: string;
  readonly guestAddress: bigint;
  readonly offset: bigint;
}

/**
 * The blocks with their host addresses, as far as the guest sees them: `info mtree -f` says at which address, `gpa2hva` where that is.
 * @throws MigrationError GUEST_ERROR: an answer cannot be parsed; what QMP throws
 */
export async function withHostAddresses(
  qmp: QmpClient,
  blocks: readonly ListedBlock[],
): Promise<ListedBlock[]> {
  if (blocks.some(({ hostAddress }) => hostAddress !== undefined)) return [...blocks];
  const ranges = parseMemoryTree(await monitor(qmp, 'info mtree -f'));
  const found: ListedBlock[] = [];
  for (const block of blocks) {
    const range = ranges.find(({ name }) => name === block.name);
    found.push(range === undefined ? block : { ...block, hostAddress: await hostAddressOf(qmp, range) });
  }
  return found;
}

async function hostAddressOf(qmp: QmpClient, { name, guestAddress, offset }: GuestRange): Promise<bigint> {
  const answer = await monitor(qmp, `gpa2hva 0x${guestAddress.toString(16)}`);
  const [, block, address] =
    /^Host virtual address for 0x[0-9a-f]+ \((\S+)\) is (0x[0-9a-f]{1,16})\s*$/.exec(answer) ?? [];
  if (block !== name || address === undefined || BigInt(address) < offset)
    throw notUnderstood(`host address of RAM block ${name}`, answer);
  return BigInt(address) - offset;
}

const ROW =
  /^\s+([0-9a-f]{16})-[0-9a-f]{16} \(prio -?\d+, (?:ram|nv-ram)\): (\S{1,255})(?: @([0-9a-f]{16}))?(?: KVM)?\s*$/;

/** The RAM in the flat view of the address space `memory`. Rows of other kinds are left out. */
export function parseMemoryTree(text: string): GuestRange[] {
  const view = text.split('FlatView #').find((one) => /^ AS "memory",/m.test(one)) ?? '';
  return view.split(/\r?\n/).flatMap((row) => {
    const [, address, name, offset = '0'] = ROW.exec(row) ?? [];
    if (address === undefined || name === undefined) return [];
    return [{ name, guestAddress: BigInt(`0x${address}`), offset: BigInt(`0x${offset}`) }];
  });
}

async function monitor(qmp: QmpClient, command: string): Promise<string> {
  const answer = await qmp.execute('human-monitor-command', { 'command-line': command });
  return parsed(z.string(), command, answer);
}
