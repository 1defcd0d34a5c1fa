/** Whole migrations between our two ends, over loopback TCP. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ImageWriter,
  MigrationDestination,
  type MigrationResult,
  MigrationSource,
  openImage,
  type SourceOptions,
} from '../../lib/index.ts';
import { differingFiles, MIB, syntheticImage } from '../support/images.ts';
import { temporaryFolder } from '../support/temp.ts';

let folder: Awaited<ReturnType<typeof temporaryFolder>>;
beforeAll(async () => {
  folder = await temporaryFolder();
});
afterAll(() => folder[Symbol.asyncDispose]());

interface Outcome {
  readonly source: MigrationResult;
  readonly destination: MigrationResult;
}

async function migrate(
  from: string,
  to: string,
  host: string,
  options: SourceOptions = {},
): Promise<Outcome> {
  await using image = await openImage(from);
  await using target = await ImageWriter.open(to);
  await using destination = await MigrationDestination.listen(`rdma:${host}:0`, target);
  const received = destination.receive();
  const sent = new MigrationSource(image, destination.uri, options).migrate();
  const [source, arrived] = await Promise.all([sent, received]);
  return { source, destination: arrived };
}

describe.each([
  { size: '2 GiB', block: 512n * MIB, host: '127.0.0.1' },
  { size: '128 MiB', block: 32n * MIB, host: '[::1]' },
])('a $size VM of random, zero, sparse and mixed pages over $host', ({ size, block, host }) => {
  let from: string;
  beforeAll(async () => {
    from = join(folder.path, size);
    const image = await syntheticImage(from, [
      { name: 'random', length: block, fill: 'random' },
      { name: 'zero', length: block, fill: 'zero' },
      { name: 'sparse', length: block, fill: 'sparse' },
      { name: 'mixed', length: block, fill: 'mixed' },
      { name: 'rom', length: 12_288n, fill: 'random' },
    ]);
    await image.close();
  }, 240_000);

  const CASES = [false, true].flatMap((pinAll) => [false, true].map((crc) => ({ pinAll, crc })));

  it.each(CASES)(
    'arrives identical, pin-all $pinAll, CRC $crc',
    async ({ pinAll, crc }) => {
      await using to = await temporaryFolder();
      const path = join(to.path, 'vm');
      const { source, destination } = await migrate(from, path, host, { pinAll, crc });
      expect(await differingFiles(from, path)).toEqual([]);
      expect(source).toMatchObject({
        status: 'completed',
        outcome: 'committed',
        'pin-all': pinAll,
        crc,
        provider: 'iwarp',
      });
      expect(destination).toMatchObject({
        status: 'completed',
        outcome: 'committed',
        'pin-all': pinAll,
        crc,
      });
      expect(destination.ram['normal-bytes']).toBe(source.ram['normal-bytes']);
      expect(source.ram.remaining).toBe(0);
    },
    240_000,
  );
});

describe('a migration', () => {
  it('takes the bytes that are there and no more: a sparse VM stays sparse', async () => {
    const from = join(folder.path, 'sparse');
    await (await syntheticImage(from, [{ name: 'pc.ram', length: 512n * MIB, fill: 'sparse' }])).close();
    const { source } = await migrate(from, join(folder.path, 'sparse-arrived'), '127.0.0.1');
    expect(source.ram['normal-bytes']).toBeLessThanOrEqual(Number(32n * MIB));
    const { stat } = await import('node:fs/promises');
    const { blocks } = await stat(join(folder.path, 'sparse-arrived', 'ram-0.bin'));
    expect(blocks * 512).toBeLessThanOrEqual(Number(33n * MIB));
  });

  it('compares all of RAM on both sides when asked to verify', async () => {
    const from = join(folder.path, 'verified');
    await (await syntheticImage(from, [{ name: 'pc.ram', length: 32n * MIB, fill: 'mixed' }])).close();
    const { source } = await migrate(from, join(folder.path, 'verified-arrived'), '127.0.0.1', {
      verify: true,
    });
    expect(source.outcome).toBe('committed');
  });

  it('says unconfirmed when an end behaves like version 1', async () => {
    const from = join(folder.path, 'v1');
    await (await syntheticImage(from, [{ name: 'pc.ram', length: 32n * MIB, fill: 'mixed' }])).close();
    const to = join(folder.path, 'v1-arrived');
    const { source, destination } = await migrate(from, to, '127.0.0.1', { commit: 'off' });
    expect(source.outcome).toBe('unconfirmed');
    expect(destination.outcome).toBe('unconfirmed');
    expect(await differingFiles(from, to)).toEqual([]);
  });

  it('yields progress that ends with the final state', async () => {
    const from = join(folder.path, 'progress');
    await (await syntheticImage(from, [{ name: 'pc.ram', length: 64n * MIB, fill: 'random' }])).close();
    await using image = await openImage(from);
    await using target = await ImageWriter.open(join(folder.path, 'progress-arrived'));
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target);
    const received = destination.receive();
    const source = new MigrationSource(image, destination.uri);
    const phases: string[] = [];
    source.on('phase', (phase) => phases.push(phase));
    const watching = (async () => {
      const seen = [];
      for await (const progress of source.progress(5)) seen.push(progress);
      return seen;
    })();
    await Promise.all([source.migrate(), received]);
    const seen = await watching;
    expect(phases).toEqual(['connect', 'negotiate', 'setup', 'ram', 'device-state', 'commit']);
    expect(seen.at(-1)).toMatchObject({
      status: 'completed',
      ram: { remaining: 0, total: Number(64n * MIB) },
    });
    const moved = seen.map(({ ram }) => ram['normal-bytes']);
    expect(moved).toEqual([...moved].sort((a, b) => a - b));
  });
});
