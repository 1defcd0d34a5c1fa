/** Several passes over RAM that is written in between, with budgets and hints: what a live migration asks of registrations. */
import { randomInt } from 'node:crypto';
import { expect, it } from 'vitest';
import { MigrationDestination } from '../../lib/index.ts';
import { HintBook } from '../../lib/ram/hint-book.ts';
import { MemoryTarget, MemoryVm, noise, PAGE, peek, poke } from '../support/memory-vm.ts';
import { PassSource } from '../support/passes.ts';

const MIB = 1n << 20n;
const RAM = 32n * MIB;
const PAGES = Number(RAM / PAGE);

interface Scene extends AsyncDisposable {
  readonly vm: MemoryVm;
  readonly target: MemoryTarget;
  readonly source: PassSource;
  /** The guest writes, and its tracker notices. */
  write(page: number, bytes: Uint8Array): Promise<void>;
  /** The last pass, the commit, and the comparison of all RAM. */
  finish(): Promise<void>;
}

async function scene(options: { budget?: bigint; hints?: HintBook } = {}): Promise<Scene> {
  const vm = await MemoryVm.create({ 'pc.ram': RAM });
  const [block] = vm.blocks;
  if (!block) throw new Error('a block');
  await poke(block, 0n, noise(24n * MIB));
  const target = new MemoryTarget();
  const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    provider: 'iwarp',
    ...(options.budget !== undefined && { pinBudget: options.budget }),
  });
  const received = destination.receive();
  received.catch(() => {});
  const source = await PassSource.connect(destination.uri, vm, options);
  return {
    vm,
    target,
    source,
    async write(page, bytes) {
      await poke(block, BigInt(page) * PAGE, bytes);
      source.blocks[0]?.bitmap.setRange(page, Math.ceil(bytes.length / Number(PAGE)));
    },
    async finish() {
      await source.pass('end');
      await source.finish();
      await received;
      expect(await target.blocks[0]?.mapping.digest()).toBe(await block.mapping.digest());
    },
    async [Symbol.asyncDispose]() {
      await source[Symbol.asyncDispose]();
      await destination.close();
      await target[Symbol.asyncDispose]();
      await vm[Symbol.asyncDispose]();
    },
  };
}

it('a range that was written before and is zero now is cleared at the destination', async () => {
  await using it = await scene();
  await it.source.pass('part');
  await it.write(100, Buffer.alloc(Number(MIB)));
  await it.write(3000, Buffer.alloc(Number(PAGE)));
  await it.source.pass('part');
  expect(it.source.sent('COMPRESS')).toBe(1); // the long range; one page is sent as data
  await it.finish();
});

it('spans that are registered still are used again, hot ones before all others', async () => {
  const hints = new HintBook();
  hints.hint('pc.ram', { offset: 0n, length: 2n * MIB }, 'hot');
  await using it = await scene({ budget: 8n * MIB, hints });
  await it.source.pass('part');
  const registered = it.source.sent('REGISTER_REQUEST');
  for (let round = 0; round < 5; round++) {
    for (let page = 0; page < 400; page += 7) await it.write(page, noise(PAGE));
    await it.source.pass('part');
  }
  expect(it.source.sent('REGISTER_REQUEST')).toBe(registered);
  expect(it.source.window.peak).toBeLessThanOrEqual(8n * MIB);
  await it.finish();
});

it('arrives whole from a guest that writes all over, through a budget of two spans', async () => {
  await using it = await scene({ budget: 2n * MIB });
  for (let round = 0; round < 8; round++) {
    await it.source.pass('part');
    for (let i = 0; i < 40; i++) {
      const page = randomInt(PAGES - 64);
      const pages = BigInt(randomInt(1, 64));
      await it.write(page, i % 3 === 0 ? Buffer.alloc(Number(pages * PAGE)) : noise(pages * PAGE));
    }
  }
  await it.finish();
  expect(it.source.window.peak).toBeLessThanOrEqual(2n * MIB);
});

it('what becomes free between passes is cleared once, and what is written there again arrives', async () => {
  const hints = new HintBook();
  await using it = await scene({ hints });
  await it.source.pass('part');
  hints.hint('pc.ram', { offset: 4n * MIB, length: 8n * MIB }, 'free');
  await it.write(1024 + 7, noise(3n * PAGE));
  await it.source.pass('part');
  expect(it.source.sent('COMPRESS')).toBe(1);
  await it.source.pass('part');
  expect(it.source.sent('COMPRESS')).toBe(1);
  const [arrived] = it.target.blocks;
  const [block] = it.vm.blocks;
  if (!arrived || !block) throw new Error('a block');
  // The guest discards what it has given away; then both ends read zero there.
  await poke(block, 4n * MIB, Buffer.alloc(Number(7n * PAGE)));
  await poke(block, 4n * MIB + 10n * PAGE, Buffer.alloc(Number(8n * MIB - 10n * PAGE)));
  expect((await peek(arrived, 4n * MIB, 7n * PAGE)).every((byte) => byte === 0)).toBe(true);
  await it.finish();
});

it('what was free and is taken back arrives as it is', async () => {
  const hints = new HintBook();
  hints.hint('pc.ram', { offset: 4n * MIB, length: 8n * MIB }, 'free');
  await using it = await scene({ hints });
  await it.source.pass('part');
  hints.hint('pc.ram', { offset: 4n * MIB, length: 8n * MIB }, 'normal');
  await it.finish();
});

/** Says something of RAM in the middle of a pass: its order has been fixed, nothing has been written. */
class FickleHints extends HintBook {
  change = (): void => {};

  override spans(...[block, temperature]: Parameters<HintBook['spans']>) {
    if (temperature === 'cold') setImmediate(() => this.change());
    return super.spans(block, temperature);
  }
}

it.each(['cold', 'hot', 'normal'] as const)(
  'a hint of %s in the middle of the last pass loses no page',
  async (kind) => {
    const hints = new FickleHints();
    hints.hint('pc.ram', { offset: 2n * MIB, length: 2n * MIB }, 'hot');
    hints.change = () => hints.hint('pc.ram', { offset: 2n * MIB, length: 8n * MIB }, kind);
    await using it = await scene({ budget: 2n * MIB, hints });
    await it.finish();
  },
);

it('what stops being free in the last pass, when its turn has gone by, arrives all the same', async () => {
  const hints = new (class extends HintBook {
    evictions = 0;

    /** Asked for when spans have to go: behind the scan, in the middle of the writing. */
    override temperature(...args: Parameters<HintBook['temperature']>) {
      this.evictions += 1;
      if (this.evictions === 1) this.hint('pc.ram', { offset: 4n * MIB, length: 2n * MIB }, 'normal');
      return super.temperature(...args);
    }
  })();
  hints.hint('pc.ram', { offset: 4n * MIB, length: 2n * MIB }, 'free');
  await using it = await scene({ budget: 2n * MIB, hints });
  await it.finish();
  expect(hints.evictions).toBeGreaterThan(0);
});
