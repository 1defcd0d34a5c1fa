/** What a source and a destination say of an earlier try. */
import { expect, it } from 'vitest';
import { MigrationSource, type RamBlock } from '../../lib/index.ts';
import { step } from '../../lib/migration/destination/destination-machine.ts';
import { LiveGuest } from '../support/live-guest.ts';
import { MemoryTarget, MemoryVm, migrateMemory, noise, peek, poke } from '../support/memory-vm.ts';
import { u32s, u64s } from '../support/raw-control.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';

const MIB = 1n << 20n;
const LENGTH = 9n * MIB;

/** A target with RAM of some earlier try. */
class Continuing extends MemoryTarget {
  readonly canContinue = true;
}

async function vmOfNoise(): Promise<{ vm: MemoryVm; content: Buffer; ram: RamBlock }> {
  const vm = await MemoryVm.create({ ram: LENGTH });
  const content = noise(LENGTH);
  content.fill(0, 5 << 20, 6 << 20);
  const ram = vm.blocks[0] as RamBlock;
  await poke(ram, 0n, content);
  return { vm, content, ram };
}

it('only chunks that differ are sent, and what is zero at the source becomes zero', async () => {
  const { vm, content } = await vmOfNoise();
  await using _ = vm;
  await using target = new Continuing({
    prepare: async ([block]) => {
      const there = Buffer.from(content);
      there[3 << 20] = (there[3 << 20] as number) ^ 1; // chunk 1
      there.fill(7, 5 << 20, 6 << 20); // chunk 2, zero at the source
      await poke(block as RamBlock, 0n, there);
    },
  });
  const { source, destination, notices } = await migrateMemory(vm, target, { continue: true, verify: true });
  expect(notices).toEqual([]);
  expect(source.continued).toBe(Number(5n * MIB));
  expect(source.ram['normal-bytes']).toBe(3 << 20);
  expect(source.ram.duplicate * 4096).toBe(1 << 20);
  expect([source.percentage, destination.percentage]).toEqual([100, 100]);
  expect((await peek(target.blocks[0] as RamBlock, 0n, LENGTH)).equals(content)).toBe(true);
});

it('with pin-all, over several channels, within a budget: only what differs', async () => {
  const { vm, content } = await vmOfNoise();
  await using _ = vm;
  for (const options of [{ pinAll: true }, { channels: 4 }, { pinBudget: 4n * MIB }]) {
    await using target = new Continuing({
      prepare: async ([block]) => poke(block as RamBlock, 0n, content.subarray(0, 7 << 20)),
    });
    const { source } = await migrateMemory(vm, target, { continue: true, ...options });
    expect(source.continued).toBe(6 << 20);
    expect((await peek(target.blocks[0] as RamBlock, 0n, LENGTH)).equals(content)).toBe(true);
  }
});

it('a source that does not ask, and a destination that has nothing, send and get everything', async () => {
  const { vm } = await vmOfNoise();
  await using _ = vm;
  await using target = new Continuing();
  const { source } = await migrateMemory(vm, target);
  expect(source).not.toHaveProperty('continued');
  await using plain = new MemoryTarget();
  const { source: asked, notices } = await migrateMemory(vm, plain, { continue: true });
  expect(asked).not.toHaveProperty('continued');
  expect(notices).toEqual([expect.stringMatching(/^the destination has nothing of an earlier try/)]);
});

it('is refused for a guest that runs, and without the commit handshake', async () => {
  await using guest = await LiveGuest.create({ pages: 16 });
  expect(() => new MigrationSource(guest, 'rdma:192.0.2.1:1', { continue: true })).toThrow(/has a guest/);
  await using vm = await MemoryVm.create({ ram: MIB });
  const both = () => new MigrationSource(vm, 'rdma:192.0.2.1:1', { continue: true, commit: 'off' });
  expect(both).toThrow(/continue needs the commit handshake/);
});

it('a request for digests comes after the blocks were announced, and before RAM', () => {
  const request = { type: 'DIGESTS_REQUEST', blockIndex: 0, offset: 0n, length: 4096n } as const;
  const outOfTurn = expect.objectContaining({ code: 'PROTOCOL_ERROR' });
  const hook = { name: 'hook', section: 'start', blocksAnnounced: true } as const;
  expect(step(hook, request)).toEqual({ state: hook, action: { do: 'digest', request } });
  for (const state of [
    { name: 'stream' },
    { ...hook, blocksAnnounced: false },
    { ...hook, section: 'part' },
    { name: 'device', commit: true },
    { name: 'done' },
  ] as const)
    expect(() => step(state, request)).toThrow(outOfTurn);
});

it('a source that has not agreed on it is refused', async () => {
  await using waiting = await receiving({}, { external: false });
  await using source = await ScriptedSource.connect(waiting.port);
  await source.reach('announced');
  await source.say('DIGESTS_REQUEST', Buffer.concat([u32s(0, 0), u64s(0n, 4096n)]));
  const refused = { code: 'PROTOCOL_ERROR', message: expect.stringMatching(/not been agreed on/) };
  await expect(waiting.result).rejects.toMatchObject(refused);
});
