/** What a destination learns of RAM that comes, and what its bar makes of it. */
import { describe, expect, it } from 'vitest';
import { Arrivals } from '../../lib/migration/destination/arrivals.ts';
import { Journal } from '../../lib/migration/journal.ts';
import type { MigrationProgress } from '../../lib/migration/progress.ts';

const MIB = 1n << 20n;
const BLOCKS = [48n * MIB, 16n * MIB];
const TOTAL = Number(64n * MIB);

interface Seen {
  /** undefined: an RDMA device, which does not tell. */
  readonly placed?: () => bigint;
  readonly sparse: boolean;
}

/** A destination whose source begins its pass over all RAM. */
function destination({ placed, sparse }: Seen): {
  arrivals: Arrivals;
  progress: () => MigrationProgress;
  end(): void;
} {
  const arrivals = new Arrivals({ placed, sparse, pins: () => undefined });
  const journal = new Journal('listen');
  journal.begin();
  journal.watch(arrivals);
  arrivals.blocks(BLOCKS);
  journal.tell({ type: 'link', state: 'ram', total: TOTAL, 'page-size': 4096 });
  journal.enter('ram');
  journal.tell({ type: 'round', state: 'begins', round: 1, pending: TOTAL, live: false });
  const end = (): void => {
    arrivals.passEnds();
    journal.tell({ type: 'round', state: 'ends', round: 1 });
    journal.enter('device-state');
  };
  return { arrivals, progress: () => journal.progress, end };
}

const span = (index: number, offset: bigint, length: bigint) => ({
  index,
  span: { offset: offset * MIB, length: length * MIB },
});
const left = (progress: MigrationProgress): number => progress.ram.remaining / Number(MIB);

describe('over a device, which does not tell of WRITEs', () => {
  it('the bar moves by the registrations, one late each time, and never back', () => {
    const { arrivals, progress, end } = destination({ sparse: false });
    const seen = [left(progress())];
    for (let at = 0n; at < 48n; at += 8n) {
      arrivals.registered([span(0, at, 8n)]);
      seen.push(left(progress()));
    }
    arrivals.registered([span(1, 0n, 16n)]);
    seen.push(left(progress()));
    expect(seen).toEqual([64, 64, 56, 48, 40, 32, 24, 16]);
    end();
    expect(progress()).toMatchObject({ percentage: 100, ram: { remaining: 0, 'normal-bytes': 0 } });
  });

  it('zeros that are told move it too', () => {
    const { arrivals, progress } = destination({ sparse: false });
    arrivals.zeros(16n * MIB);
    expect(left(progress())).toBe(48);
  });

  it('what a sparse source passes over between two registrations is zero', () => {
    const { arrivals, progress } = destination({ sparse: true });
    arrivals.registered([span(0, 8n, 8n)]);
    expect(left(progress())).toBe(56);
    arrivals.registered([span(1, 0n, 4n), span(1, 8n, 4n)]);
    // 8 before, 32 and 4 between, and the first registration has come.
    expect(left(progress())).toBe(64 - 8 - 32 - 4 - 8);
  });

  it('PROGRESS tells what messages cannot', () => {
    const { arrivals, progress, end } = destination({ sparse: true });
    const count = (content: bigint, zero: bigint) => ({
      round: 1,
      pending: TOTAL,
      content: Number(content * MIB),
      zero: Number(zero * MIB),
      foundContent: Number(40n * MIB),
      foundZero: Number(zero * MIB),
    });
    arrivals.told(count(10n, 20n));
    expect(left(progress())).toBe(34);
    arrivals.told(count(20n, 24n));
    expect(left(progress())).toBe(20);
    // Less than before: it is not believed.
    arrivals.told(count(1n, 1n));
    expect(left(progress())).toBe(20);
    // What has come since the last word of it was content: zeros are known ahead.
    end();
    expect(progress().ram).toMatchObject({ remaining: 0, duplicate: (24 * 2 ** 20) / 4096 });
  });
});

describe('over the software RNIC', () => {
  it('WRITEs count as they are placed, and zeros between registrations as they are passed over', () => {
    let placed = 0n;
    const { arrivals, progress, end } = destination({ sparse: true, placed: () => placed });
    arrivals.registered([span(0, 16n, 8n)]);
    placed = 4n * MIB;
    expect(left(progress())).toBe(64 - 16 - 4);
    arrivals.registered([span(1, 12n, 4n)]);
    placed = 12n * MIB;
    expect(left(progress())).toBe(64 - 16 - 24 - 12 - 12);
    end();
    // Half of what was registered is zero as well.
    const { ram } = progress();
    expect(ram).toMatchObject({
      remaining: 0,
      'normal-bytes': Number(12n * MIB),
      duplicate: (52 * 2 ** 20) / 4096,
    });
    expect(ram.skipped).toBe(ram.duplicate);
  });

  it('a source that goes another way than from the first block to the last takes nothing back', () => {
    let placed = 0n;
    const { arrivals, progress } = destination({ sparse: true, placed: () => placed });
    arrivals.registered([span(1, 0n, 16n)]);
    const first = left(progress());
    for (let at = 0n; at < 48n; at += 16n) {
      arrivals.registered([span(0, at, 16n)]);
      expect(left(progress())).toBeLessThanOrEqual(first);
    }
    placed = 64n * MIB;
    expect(left(progress())).toBe(0);
  });

  it('what was registered in an earlier pass is nothing that is left of a later one', () => {
    const { arrivals } = destination({ sparse: true, placed: () => MIB });
    arrivals.registered([span(0, 0n, 16n)]);
    arrivals.passEnds();
    expect(arrivals.read()).toContainEqual(expect.objectContaining({ type: 'bytes', found: Number(MIB) }));
  });
});
