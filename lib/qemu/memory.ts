/** Where a QEMU has its RAM: which blocks it shares, and by which file. What the kernel says of its mappings counts, not its options. */
import { z } from 'zod';
import { MigrationError } from '../errors.ts';
import type { QmpClient } from '../qmp/client.ts';
import type { RamBlockLayout } from '../ram/vm.ts';
import { withHostAddresses } from './addresses.ts';
import { type ListedBlock, parsed } from './machine.ts';
import { type MappedRange, mapsOf, nameOf, openFileOf } from './process.ts';

/** What QEMU keeps for itself and sends as device state: firmware, tables, video memory. */
const MOST_PRIVATE_BYTES = 256n << 20n;

/** A RAM block that others can map too. */
export interface SharedBlock extends RamBlockLayout {
  readonly guestAddress: bigint;
  /** Opens its file. */
  readonly path: string;
  /** In the address space of QEMU. */
  readonly hostAddress: bigint;
  readonly range: MappedRange;
  /** It is a memfd: it has no name in any file system. */
  readonly memfd: boolean;
}

const properties = z.array(z.object({ name: z.string().max(255), type: z.string().max(255) })).max(65_536);

/**
 * The blocks of a QEMU that are mapped shared, with their files.
 * @throws MigrationError GUEST_ERROR: RAM of the guest is private, or is no file of its own; what QMP throws; PERMISSION_DENIED
 */
export async function findSharedRam(
  qmp: QmpClient,
  pid: number,
  blocks: readonly ListedBlock[],
): Promise<SharedBlock[]> {
  const backends = await listBackends(qmp);
  const maps = await mapsOf(pid);
  const found: SharedBlock[] = [];
  for (const block of await withHostAddresses(qmp, blocks)) {
    const backend = backends.find((id) => block.name === id || block.name === `/objects/${id}`);
    const range = rangeOf(maps, block);
    if (range === undefined || !range.shared) {
      if (backend !== undefined || block.length > MOST_PRIVATE_BYTES)
        throw isPrivate(block, range, await nameOf(pid));
      continue;
    }
    const guestAddress = backend === undefined ? 0n : await guestAddressOf(qmp, backend);
    found.push({ ...(await locate(pid, block, range)), guestAddress });
  }
  if (found.length > 0) return found;
  throw new MigrationError('GUEST_ERROR', 'configure', `QEMU shares none of its RAM. ${REMEDY}`);
}

const rangeOf = (maps: readonly MappedRange[], { hostAddress }: ListedBlock): MappedRange | undefined =>
  hostAddress === undefined
    ? undefined
    : maps.find(({ from, to }) => from <= hostAddress && hostAddress < to);

async function locate(
  pid: number,
  { name, length, hostAddress = 0n }: ListedBlock,
  range: MappedRange,
): Promise<Omit<SharedBlock, 'guestAddress'>> {
  const path = await openFileOf(pid, range, length);
  if (path === undefined || range.offset + (hostAddress - range.from) !== 0n) {
    const why =
      path === undefined ? 'it is no file that QEMU has open' : 'it does not begin where its file does';
    throw new MigrationError(
      'GUEST_ERROR',
      'configure',
      `the RAM block ${name} cannot be shared: ${why}. ${REMEDY}`,
    );
  }
  return { name, length, path, hostAddress, range, memfd: range.path.startsWith('/memfd:') };
}

/** Ids of the memory backends. @throws MigrationError GUEST_ERROR */
async function listBackends(qmp: QmpClient): Promise<string[]> {
  const listed = parsed(properties, 'qom-list /objects', await qmp.execute('qom-list', { path: '/objects' }));
  return listed.filter(({ type }) => type.startsWith('child<memory-backend-')).map(({ name }) => name);
}

/**
 * Where the block lies in what it is a part of, which is what QEMU compares when it loads a stream with x-ignore-shared: 0 for all of a machine's RAM, and
 * the sum of those before it for a NUMA node's.
 */
async function guestAddressOf(qmp: QmpClient, backend: string): Promise<bigint> {
  const path = `/objects/${backend}`;
  const listed = parsed(properties, `qom-list ${path}`, await qmp.execute('qom-list', { path }));
  const region = listed.find(({ type }) => type.startsWith('child<') && type.endsWith('memory-region>'));
  if (region === undefined) return 0n;
  const asked = { path: `${path}/${region.name}`, property: 'addr' };
  const address = parsed(z.number().int().min(0), 'qom-get addr', await qmp.execute('qom-get', asked));
  return BigInt(address);
}

const REMEDY =
  'Start QEMU with RAM that others can map: -object memory-backend-file,id=pc.ram,size=SIZE,mem-path=/dev/shm/NAME,share=on -machine memory-backend=pc.ram ' +
  '(or memory-backend-memfd with share=on, before QEMU 8.1). A guest that runs with private RAM can be moved by rdma-migrate tunnel, or by QEMU’s own rdma:';

function isPrivate(
  { name, length }: ListedBlock,
  range: MappedRange | undefined,
  who: string,
): MigrationError {
  const how = range === undefined ? 'QEMU does not say where it is' : 'it is mapped private';
  const message = `the RAM block ${name} of ${length >> 20n} MiB cannot be read from outside ${who}: ${how}. ${REMEDY}`;
  return new MigrationError('GUEST_ERROR', 'configure', message, { details: { block: name } });
}
