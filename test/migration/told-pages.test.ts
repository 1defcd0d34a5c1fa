/** What a destination knows of the pages that were told, where a device places WRITEs without a word and where it sees them. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { mapMemfd, type RamBlock } from '../../lib/index.ts';
import { ToldPages } from '../../lib/migration/destination/told-pages.ts';
import type { NativeCoverage } from '../../lib/native/memory.ts';
import type { Agreed } from '../../lib/protocol/capabilities.ts';
import type { DeviceStateResult } from '../../lib/protocol/tail.ts';
import type { Connection } from '../../lib/transport/connection.ts';

const MIB = 1n << 20n;
const STATE: DeviceStateResult = { complete: true, description: { pageSize: 4096, devices: [] } };
const HINTED: DeviceStateResult = { ...STATE, mayLeaveOut: ['free-page-hint'] };

let blocks: RamBlock[];
beforeAll(async () => {
  const lengths = { 'pc.ram': 4n * MIB, rom: 8192n };
  blocks = await Promise.all(
    Object.entries(lengths).map(async ([name, length]) => ({
      name,
      length,
      mapping: await mapMemfd({ name, length }),
    })),
  );
});
afterAll(async () => {
  for (const { mapping } of blocks) await mapping.close();
});

interface Scene {
  readonly told: ToldPages;
  /** A WRITE of the source, on a provider that sees it. */
  readonly seen: NativeCoverage;
}

function scene(sees: boolean, agreed: Partial<Agreed> = {}): Scene {
  const observed: NativeCoverage[] = [];
  const observePlacement = (coverage: NativeCoverage): boolean => {
    observed.push(coverage);
    return sees;
  };
  const connection = { observePlacement } as unknown as Connection;
  const told = new ToldPages(connection, blocks, { pinAll: false, ...agreed } as Agreed, 4096);
  return { told, seen: observed[0] as NativeCoverage };
}

describe('on a device', () => {
  it('it is not known whether all came, when each chunk was asked for or told to be zero', () => {
    const { told } = scene(false);
    told.registered(0, { offset: 0n, length: 3n * MIB });
    told.zeros(0, { offset: 3n * MIB, length: MIB });
    told.registered(1, { offset: 0n, length: 8192n });
    expect(told.coverage(STATE)).toMatchObject({
      state: 'unknown',
      reason: expect.stringContaining('device'),
    });
  });

  it('it is not known with pin-all, in which nothing is asked for', () => {
    expect(scene(false, { pinAll: true }).told.coverage(STATE).state).toBe('unknown');
  });

  it('a chunk that was neither is missing', () => {
    const { told } = scene(false);
    told.registered(0, { offset: 0n, length: 2n * MIB });
    told.zeros(0, { offset: 3n * MIB, length: MIB });
    told.registered(1, { offset: 0n, length: 8192n });
    expect(() => told.coverage(STATE)).toThrow(
      'did not account for 256 of the 1024 pages of RAM block pc.ram',
    );
    expect(told.coverage(HINTED)).toMatchObject({ state: 'with-gaps', missing: Number(MIB) });
  });
});

describe('where WRITEs are seen', () => {
  it('all is told when each page was written or told to be zero', () => {
    const { told, seen } = scene(true);
    seen.add(0, 0n, 4n * MIB);
    told.zeros(1, { offset: 0n, length: 8192n });
    expect(told.coverage(STATE)).toEqual({ state: 'whole', missing: 0 });
  });

  it('what was only asked for is missing', () => {
    const { told } = scene(true);
    told.registered(0, { offset: 0n, length: 4n * MIB });
    told.zeros(1, { offset: 0n, length: 8192n });
    expect(() => told.coverage(STATE)).toThrow('did not account for 1024 of the 1024 pages');
  });

  it('a source of ours that keeps the zeros of fresh RAM to itself leaves gaps, with that reason', () => {
    const { told, seen } = scene(true, { sparse: true });
    seen.add(0, 0n, MIB);
    const coverage = told.coverage(STATE);
    expect(coverage).toMatchObject({ state: 'with-gaps', missing: Number(3n * MIB) + 8192 });
    expect(coverage.reason).toContain('zeros of fresh RAM');
  });
});
