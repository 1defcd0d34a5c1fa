/** What a source's result says of its control messages. */
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MemoryTarget, MemoryVm, migrateMemory, noise, poke } from '../support/memory-vm.ts';

const MIB = 1n << 20n;

let vm: MemoryVm;
beforeAll(async () => {
  vm = await MemoryVm.create({ 'pc.ram': 32n * MIB });
  const [ram] = vm.blocks;
  if (!ram) throw new Error('a block');
  await poke(ram, 0n, noise(32n * MIB));
});
afterAll(() => vm[Symbol.asyncDispose]());

const migrate = async (pinAll: boolean) => {
  await using target = new MemoryTarget();
  return migrateMemory(vm, target, { pinAll });
};

it('keys are waited for where registration is dynamic, and not with pin-all', async () => {
  const [dynamic, pinned] = [await migrate(false), await migrate(true)];
  expect(dynamic.source.control?.['key-wait']).toBeGreaterThan(0);
  expect(pinned.source.control?.['key-wait']).toBe(0);
  expect(pinned.source.control?.messages).toBeGreaterThan(0);
});

it('a destination has no such account', async () => {
  const { source, destination } = await migrate(true);
  expect(source.control?.idle).toBeGreaterThan(0);
  expect(destination).not.toHaveProperty('control');
});
