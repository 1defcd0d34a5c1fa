/** Sparse RAM and zeros: what was never touched is not read, not sent and not touched. */
import { afterEach, describe, expect, it, vi } from 'vitest';
import type { ControlMessage } from '../../lib/protocol/control.ts';
import { SourceTurns } from '../../lib/transport/turns.ts';
import {
  type MapRam,
  MemoryTarget,
  MemoryVm,
  migrateMemory,
  noise,
  PAGE,
  poke,
} from '../support/memory-vm.ts';
import { temporaryFolder } from '../support/temp.ts';
import { anonymous, filesIn, touchedPages } from '../support/touched.ts';

const MIB = 1n << 20n;

afterEach(() => void vi.restoreAllMocks());

/** Single pages at distances below and above what travels as a range of zeros; returns how many. */
async function scatter(vm: MemoryVm): Promise<number> {
  const [block] = vm.blocks;
  if (!block) throw new Error('a block');
  let pages = 0;
  for (let at = 0n; at < block.length; at += BigInt(2 + ((pages * 37) % 301)) * PAGE, pages++)
    await poke(block, at, noise(PAGE));
  return pages;
}

const folder = await temporaryFolder();
const KINDS: readonly (readonly [string, MapRam | undefined])[] = [
  ['a memfd', undefined],
  ['files', filesIn(folder.path)],
  ['private anonymous memory of the embedder', anonymous],
];

describe.each(KINDS)('pages never touched, in %s,', (_, map) => {
  it.each([
    ['with a budget', { pinBudget: 4n * MIB }, false],
    ['without', {}, false],
    ['with pin-all', { pinAll: true }, false],
    ['where registered memory is touched ahead', {}, true],
  ] as const)('are not read, not sent and not touched, %s', async (_case, options, populates) => {
    await using vm = await MemoryVm.create({ 'pc.ram': 48n * MIB }, map);
    const pages = await scatter(vm);
    const mapping = vm.blocks[0]?.mapping as (typeof vm.blocks)[0]['mapping'];
    const before = await touchedPages(mapping);
    await using target = new MemoryTarget(map ? { map } : {});
    const populate = populates ? 'always' : 'never';
    const { source } = await migrateMemory(vm, target, options, { populate });
    const arrived = target.blocks[0]?.mapping as typeof mapping;
    // Counted before the digest reads all.
    const touched = await touchedPages(arrived);
    expect(await touchedPages(mapping)).toBe(before);
    expect(source.ram['normal-bytes']).toBe(pages * Number(PAGE));
    expect(touched).toBeLessThanOrEqual(pages + 1); // a caller's memory begins in a page that its allocator has touched
    expect(await arrived.digest()).toBe(await mapping.digest());
  });
});

it('memory that is touched ahead is what will be written, not the chunks that it lies in', async () => {
  await using vm = await MemoryVm.create({ 'pc.ram': 48n * MIB });
  const [block] = vm.blocks;
  if (!block) throw new Error('a block');
  for (let at = 0n; at < block.length; at += 4n * MIB) await poke(block, at, noise(16n * PAGE));
  await using target = new MemoryTarget();
  await migrateMemory(vm, target, {}, { populate: 'always' });
  const arrived = target.blocks[0]?.mapping as (typeof block)['mapping'];
  expect(await touchedPages(arrived)).toBe(12 * 16);
  expect(await arrived.digest()).toBe(await block.mapping.digest());
});

function countCompress(): () => number {
  const sent: ControlMessage[] = [];
  const send = SourceTurns.prototype.send;
  vi.spyOn(SourceTurns.prototype, 'send').mockImplementation(function (this: SourceTurns, message) {
    sent.push(message);
    return send.call(this, message);
  });
  return () => sent.filter(({ type }) => type === 'COMPRESS').length;
}

describe('a range of zeros', () => {
  it.each([
    ['travels as COMPRESSes of 256 MiB, however short its windows are', false, 12],
    ['goes without a word to RAM that is fresh', true, 0],
  ] as const)('%s', async (_, fresh, messages) => {
    await using vm = await MemoryVm.create({ 'pc.ram': 3072n * MIB });
    const [block] = vm.blocks;
    if (!block) throw new Error('a block');
    await poke(block, 5n * PAGE, noise(PAGE));
    await poke(block, 3070n * MIB, noise(2n * MIB));
    const count = countCompress();
    await using target = new MemoryTarget({ fresh });
    const { source } = await migrateMemory(vm, target, { pinBudget: 8n * MIB });
    expect(count()).toBe(messages);
    expect(source.ram.duplicate * 4096 + source.ram['normal-bytes']).toBe(source.ram.total);
    expect(source.ram.skipped).toBe(fresh ? source.ram.duplicate : 0);
  });

  it('clears what the destination had there, where its RAM is not fresh', async () => {
    await using vm = await MemoryVm.create({ 'pc.ram': 16n * MIB });
    await scatter(vm);
    await using target = new MemoryTarget({
      fresh: false,
      prepare: async ([block]) => {
        if (block) await poke(block, 0n, noise(16n * MIB));
      },
    });
    await migrateMemory(vm, target, { verify: true });
    expect(await target.blocks[0]?.mapping.digest()).toBe(await vm.blocks[0]?.mapping.digest());
  });
});
