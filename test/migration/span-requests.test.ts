/** What pin-all off costs is round trips: a request for keys must cover as much as can be moved under it. */
import { expect, it } from 'vitest';
import { MigrationSource } from '../../lib/index.ts';
import { MemoryVm, noise, poke } from '../support/memory-vm.ts';
import { RawListener } from '../support/raw-listener.ts';
import { ScriptedDestination } from '../support/scripted-destination.ts';

const MIB = 1n << 20n;
const BLOCK = { address: 0x7f00_0000_0000n, offset: 0n, length: 32n * MIB, rkey: 77 };

/** The requests of a source whose RAM has content in these pieces, from a destination as stock QEMU is. */
async function requestsFor(...pieces: readonly { offset: bigint; length: bigint }[]): Promise<number> {
  await using vm = await MemoryVm.create({ 'pc.ram': BLOCK.length });
  const [block] = vm.blocks;
  if (!block) throw new Error('a block');
  for (const { offset, length } of pieces) await poke(block, offset, noise(length));
  await using listener = await RawListener.open();
  const destination = new ScriptedDestination({ blocks: [BLOCK] });
  const served = destination.serve(listener);
  served.catch(() => {});
  await new MigrationSource(vm, listener.uri, { provider: 'iwarp' }).migrate();
  await served;
  expect(destination.missing(0)).toBe(0n);
  return destination.received.filter(({ type }) => type === 'REGISTER_REQUEST').length;
}

it('memory without a gap is registered by one request, however long it is', async () => {
  expect(await requestsFor({ offset: 0n, length: 32n * MIB })).toBe(1);
});

it('a gap shorter than a chunk costs no request, a longer one costs one', async () => {
  const half = MIB / 2n;
  expect(await requestsFor({ offset: 0n, length: half }, { offset: 3n * half, length: half })).toBe(1);
  expect(await requestsFor({ offset: 0n, length: MIB }, { offset: 8n * MIB, length: MIB })).toBe(2);
});
