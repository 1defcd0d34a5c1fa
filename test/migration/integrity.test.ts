/** What finds damage of what travels: by default, and where somebody has decided. */
import { expect, it } from 'vitest';
import { MemoryTarget, MemoryVm, migrateMemory } from '../support/memory-vm.ts';

it.each([
  ['nobody says anything', {}, {}, 'crc32c'],
  ['the source wants none', { crc: false }, {}, 'none'],
  ['the destination wants none', {}, { crc: false }, 'none'],
  ['both want none', { crc: false }, { crc: false }, 'none'],
  ['one asks for it and the other wants none', { crc: true }, { crc: false }, 'crc32c'],
  ['the other asks for it', { crc: false }, { crc: true }, 'crc32c'],
] as const)('where %s', async (_, source, destination, integrity) => {
  await using vm = await MemoryVm.create({ ram: 1n << 20n });
  await using target = new MemoryTarget();
  for (const channels of [1, 3]) {
    const ended = await migrateMemory(vm, target, { ...source, channels }, destination);
    const expected = { integrity, crc: integrity === 'crc32c' };
    expect([ended.source, ended.destination]).toMatchObject([expected, expected]);
    expect(ended.source.channels).toBe(channels);
  }
});
