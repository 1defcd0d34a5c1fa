/** What each end knows of RAM by its bitmaps, cell by cell, at the end of a migration. */
import { describe, expect, it } from 'vitest';
import { MigrationDestination, MigrationSource } from '../../lib/index.ts';
import { RAM_CELL, type RamMap } from '../../lib/ram/ram-map.ts';
import { MemoryTarget, MemoryVm, noise, PAGE, poke } from '../support/memory-vm.ts';

/** A chunk of 1 MiB each: what is zero within one that has content is told of only where the destination is known to be zero. */
const CONTENT = 256;
const ZEROS = 256;

/** A block of content and then zeros, and one of content: a page is a cell in VMs this small. */
async function moved(
  commit: 'require' | 'off',
  fresh: boolean,
): Promise<Record<'source' | 'destination', RamMap>> {
  const lengths = { ram: BigInt(CONTENT + ZEROS) * PAGE, rom: 2n * PAGE };
  await using vm = await MemoryVm.create(lengths);
  const [ram, rom] = vm.blocks;
  if (!ram || !rom) throw new Error('no blocks');
  await poke(ram, 0n, noise(BigInt(CONTENT) * PAGE));
  await poke(rom, 0n, noise(2n * PAGE));
  await using target = new MemoryTarget({ fresh });
  const options = { provider: 'iwarp', commit } as const;
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, options);
  const source = new MigrationSource(vm, destination.uri, options);
  const maps = { source: source.mapRam(), destination: destination.mapRam() };
  expect(maps.source.layout).toBeUndefined();
  await Promise.all([destination.receive(), source.migrate()]);
  return maps;
}

interface Cell {
  readonly waiting: number;
  readonly zero: number;
  readonly inFlight: boolean;
}

const cellsOf = (map: RamMap): Cell[] =>
  Array.from(map.read(), (cell) => ({
    waiting: (cell >> RAM_CELL.waiting) & 15,
    zero: (cell >> RAM_CELL.zero) & 15,
    inFlight: (cell & RAM_CELL.inFlight) !== 0,
  }));

const SENT = { waiting: 0, zero: 0, inFlight: false };
const many = (count: number, cell: Cell): Cell[] => Array.from({ length: count }, () => cell);

describe.each([
  ['with commit', 'require'],
  ['without, as with a QEMU', 'off'],
] as const)('the map of RAM, %s', (_, commit) => {
  it.each([true, false])('has all of it at the end (fresh: %s)', async (fresh) => {
    const { source, destination } = await moved(commit, fresh);
    for (const { layout } of [source, destination])
      expect(layout).toEqual({
        cellBytes: Number(PAGE),
        cells: CONTENT + ZEROS + 2,
        blocks: [
          { name: 'ram', bytes: (CONTENT + ZEROS) * Number(PAGE), cells: CONTENT + ZEROS },
          { name: 'rom', bytes: 2 * Number(PAGE), cells: 2 },
        ],
      });
    const zeros = many(ZEROS, { ...SENT, zero: 15 });
    expect(cellsOf(source)).toEqual([...many(CONTENT, SENT), ...zeros, ...many(2, SENT)]);
    const cells = cellsOf(destination);
    expect([...cells.slice(0, CONTENT), ...cells.slice(-2)]).toEqual(many(CONTENT + 2, SENT));
    // Into memory that is known to be zero a source of ours tells of no zeros.
    const untold = fresh ? 15 : 0;
    expect(cells.slice(CONTENT, -2)).toEqual(many(ZEROS, { ...SENT, waiting: untold }));
  });
});
