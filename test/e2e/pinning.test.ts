/** Pin budgets between two ends of ours. The software RNIC pins nothing, and registers just as a device does. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type DestinationOptions, MigrationHints, type SourceOptions } from '../../lib/index.ts';
import { MemoryTarget, MemoryVm, migrateMemory, noise, PAGE, peek, poke } from '../support/memory-vm.ts';

const MIB = 1n << 20n;
const RAM = 64n * MIB;

let vm: MemoryVm;
beforeAll(async () => {
  vm = await MemoryVm.create({ 'pc.ram': RAM, vga: 3n * MIB + PAGE });
  const [ram, vga] = vm.blocks;
  if (!ram || !vga) throw new Error('two blocks');
  await poke(ram, 0n, noise(24n * MIB));
  // Scattered pages, and zeros between.
  for (let at = 32n * MIB; at < RAM; at += 700n * PAGE) await poke(ram, at, noise(3n * PAGE));
  await poke(vga, 0n, noise(vga.length));
});
afterAll(() => vm[Symbol.asyncDispose]());

async function moves(source: SourceOptions, destination: DestinationOptions, fresh = true) {
  await using target = new MemoryTarget({ fresh });
  const results = await migrateMemory(vm, target, { verify: true, ...source }, destination);
  for (const [index, { name, mapping }] of vm.blocks.entries()) {
    expect(await target.blocks[index]?.mapping.digest(), name).toBe(await mapping.digest());
  }
  return results;
}

describe('a pin budget', () => {
  it.each([
    ['of the source', { pinBudget: 4n * MIB }, {}, 4n * MIB],
    ['of the destination', {}, { pinBudget: 8n * MIB }, 8n * MIB],
    ['of both: the smaller one', { pinBudget: 16n * MIB }, { pinBudget: 3n * MIB }, 3n * MIB],
    ['of the least size', { pinBudget: 2n * MIB }, {}, 2n * MIB],
    ['of odd size', { pinBudget: 7n * MIB + 123n }, {}, 7n * MIB + 123n],
    ['larger than RAM', { pinBudget: 1n << 40n }, {}, 1n << 40n],
  ])('%s is kept to at both ends', async (_, source, destination, budget) => {
    const results = await moves(source, destination);
    for (const end of [results.source, results.destination]) {
      expect(end['registered-peak']).toBeLessThanOrEqual(Number(budget));
      expect(end['registered-peak']).toBeGreaterThan(0);
    }
    expect(results.source['pin-budget']).toBe(Number(budget));
    expect(results.destination['registered-peak']).toBe(results.source['registered-peak']);
  });

  it('of the destination turns pin-all down, as version 1 provides for', async () => {
    const { source, notices } = await moves({ pinAll: true }, { pinBudget: 4n * MIB });
    expect(source).toMatchObject({ 'pin-all': false, 'pin-budget': Number(4n * MIB) });
    expect(notices.join()).toContain('declined pin-all');
  });

  it('is kept to with a destination whose RAM is not known to be fresh', async () => {
    const { destination } = await moves({ pinBudget: 4n * MIB }, {}, false);
    expect(destination['registered-peak']).toBeLessThanOrEqual(Number(4n * MIB));
  });

  it('without one nothing is registered that is not sent', async () => {
    await using sparse = await MemoryVm.create({ 'pc.ram': 256n * MIB });
    const [ram] = sparse.blocks;
    if (!ram) throw new Error('a block');
    await poke(ram, 100n * MIB, noise(MIB));
    await using target = new MemoryTarget();
    const { source, destination } = await migrateMemory(sparse, target);
    expect(source['registered-peak']).toBe(Number(MIB));
    expect(destination['registered-peak']).toBe(Number(MIB));
    expect(source).not.toHaveProperty('pin-budget');
  });

  it('cannot be had together with pin-all', async () => {
    const both = moves({ pinAll: true, pinBudget: 4n * MIB }, {});
    await expect(both).rejects.toMatchObject({ code: 'INVALID_ARGUMENT', phase: 'configure' });
  });
});

describe('hints', () => {
  it('send a free range as zeros, without reading it, and say so no more', async () => {
    const hints = new MigrationHints();
    hints.hint('pc.ram', { offset: 4n * MIB + 1n, length: 8n * MIB }, 'free');
    await using target = new MemoryTarget();
    const { source } = await migrateMemory(vm, target, { hints, pinBudget: 4n * MIB });
    const [ram, arrived] = [vm.blocks[0], target.blocks[0]];
    if (!ram || !arrived) throw new Error('a block');
    const free = { offset: 4n * MIB + PAGE, length: 8n * MIB - PAGE };
    expect((await peek(arrived, free.offset, free.length)).every((byte) => byte === 0)).toBe(true);
    for (const [offset, length] of [
      [0n, free.offset],
      [free.offset + free.length, 12n * MIB],
    ] as const) {
      expect((await peek(arrived, offset, length)).equals(await peek(ram, offset, length))).toBe(true);
    }
    expect(source.ram.total - source.ram['normal-bytes'] - source.ram.duplicate * Number(PAGE)).toBe(0);
  });

  it('that are taken back send the range with all else', async () => {
    const hints = new MigrationHints();
    hints.hint('pc.ram', { offset: 0n, length: 16n * MIB }, 'free');
    hints.hint('pc.ram', { offset: 0n, length: 16n * MIB }, 'normal');
    const { source } = await moves({ hints }, {});
    expect(source.outcome).toBe('committed');
  });

  it('of heat change the order and not the result', async () => {
    const hints = new MigrationHints();
    hints.hint('pc.ram', { offset: 0n, length: 5n * MIB + 3n * PAGE }, 'hot');
    hints.hint('pc.ram', { offset: 9n * MIB + PAGE, length: 30n * MIB }, 'cold');
    hints.hint('vga', { offset: PAGE, length: PAGE }, 'hot');
    const { destination } = await moves({ hints, pinBudget: 4n * MIB }, {});
    expect(destination['registered-peak']).toBeLessThanOrEqual(Number(4n * MIB));
  });

  it.each([
    ['names a block that the VM does not have', 'flash', { offset: 0n, length: PAGE }],
    ['leaves its block', 'vga', { offset: 3n * MIB, length: 2n * PAGE }],
  ])('that %s ends the migration before it connects', async (_, block, range) => {
    const hints = new MigrationHints();
    hints.hint(block, range, 'cold');
    await expect(moves({ hints }, {})).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
      phase: 'configure',
    });
  });
});
