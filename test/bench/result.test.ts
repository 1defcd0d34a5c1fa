/** From samples to figures, table and pictures. */
import { describe, expect, it } from 'vitest';
import type { Sample } from '../../lib/bench/measure/sample.ts';
import { picturesOf } from '../../lib/bench/pictures.ts';
import { DEFAULTS, type Point, planOf, tooMuch } from '../../lib/bench/plan.ts';
import { renderPlots } from '../../lib/bench/plot/index.ts';
import { type BenchResult, benchResultSchema } from '../../lib/bench/result.ts';
import { pointResult } from '../../lib/bench/run.ts';
import { figureOf } from '../../lib/bench/statistics.ts';
import { tableLines } from '../../lib/bench/table.ts';

const GIB = 2 ** 30;
const cost = (seconds: number, loopPermille = 100) => ({
  userUs: seconds * 5e5,
  systemUs: seconds * 5e5,
  loopPermille,
});
const write = (messageBytes: number, crc = false): Point => ({
  ...{ kind: 'throughput', operation: 'write', messageBytes, depth: 64, queuePairs: 1, crc },
});
const latency: Point = { kind: 'latency', operation: 'send', messageBytes: 4096, crc: false };
const migration: Point = {
  ...{ kind: 'migration', ramBytes: GIB, zeroPercent: 25, dirtyRate: 100 * 2 ** 20 },
  ...{ pinAll: true, channels: 2, crc: true },
};
const rate = (gib: number, loopPermille = 100): Sample => ({
  ...{ kind: 'throughput', messages: 1000, bytes: gib * GIB, seconds: 1 },
  ...{ here: cost(gib / 2, loopPermille), there: cost(gib / 4) },
});
const pingPong: Sample = {
  ...{ kind: 'latency', messages: 10, bytes: 40_960, seconds: 1, p50: 20, p99: 50, p999: 900 },
  ...{ here: cost(1), there: cost(1) },
};
const moved: Sample = {
  ...{ kind: 'migration', bytes: GIB, seconds: 2, ramSeconds: 1.5, downtimeSeconds: 0.03 },
  ...{ here: cost(1), there: cost(2) },
};

const machine = { cpus: 2, model: 'EPYC', kernel: '6', node: 'v20', tool: '1' };
const resultOf = (points: BenchResult['points'], more: Partial<BenchResult> = {}): BenchResult => ({
  ...{ format: 'rdma-migrate-bench', version: 1, began: '2026-01-01T00:00:00.000Z', complete: true },
  settings: { rounds: 3, seconds: 0.5, local: true },
  provider: { name: 'iwarp', reason: 'asked for' },
  ...{ connection: 'MPA', here: machine, there: machine, points },
  ...more,
});
const full = (): BenchResult =>
  resultOf([
    pointResult(write(4096), [rate(3), rate(1), rate(2)]),
    pointResult(write(1 << 20), [rate(4)]),
    pointResult(latency, [pingPong]),
    pointResult(migration, [moved]),
  ]);

describe('figures', () => {
  it('are the median of the rounds with the least and the most', () => {
    expect(figureOf([3, 1, 2])).toEqual({ median: 2, min: 1, max: 3 });
    expect(figureOf([4, 1, 2, 3])).toEqual({ median: 2.5, min: 1, max: 4 });
  });

  it('are those of each point, with the processor time of each end for a GiB', () => {
    const point = pointResult(write(4096), [rate(3), rate(1), rate(2)]);
    expect(point).toMatchObject({
      rounds: 3,
      bytesPerSecond: { median: 2 * GIB, min: GIB, max: 3 * GIB },
      cpuSecondsPerGib: { here: { median: 0.5 }, there: { median: 0.25 } },
    });
  });

  it('of both ends together are sums of the same round', () => {
    const spent = (here: number, there: number): Sample => ({
      ...rate(1),
      ...{ here: cost(here), there: cost(there) },
    });
    const point = pointResult(write(4096), [spent(1, 3), spent(3, 1), spent(2, 2)]);
    expect(point.cpuSecondsPerGib?.both).toEqual({ median: 4, min: 4, max: 4 });
    const panel = picturesOf(resultOf([point])).panels.find(({ title }) => title.startsWith('Processor'));
    expect(panel?.series[0]?.points).toEqual([{ x: 4096, median: 4, low: 4, high: 4 }]);
  });

  it('are missing where nothing was measured', () => {
    for (const point of [write(4096), latency, migration]) {
      const result = pointResult(point, []);
      expect(result.rounds).toBe(0);
      expect(JSON.stringify(result)).not.toContain('median');
    }
  });
});

describe('the result', () => {
  it('validates, with all rounds or none', () => {
    const none = resultOf([write(4096), latency, migration].map((point) => pointResult(point, [])));
    for (const result of [full(), none]) {
      const copy = JSON.parse(JSON.stringify(result));
      expect(benchResultSchema.parse(copy)).toEqual(copy);
    }
    expect(() => benchResultSchema.parse({ ...full(), version: 2 })).toThrow();
  });
});

describe('the table', () => {
  it('has a head and a unit above each column', () => {
    const lines = tableLines(full());
    const heads = lines.findIndex((line) => line.startsWith('what'));
    const [head, units, row] = lines.slice(heads) as [string, string, string];
    const end = (line: string, word: string): number => line.indexOf(word) + word.length;
    expect(end(units, 'GiB/s')).toBe(end(head, 'median'));
    expect(end(row, '2.00')).toBe(end(head, 'median'));
    expect(end(row, '0.50')).toBe(end(head, 'CPU here'));
    expect(end(units, 's/GiB')).toBe(end(head, 'CPU here'));
    expect(row).toContain('1.00-3.00');
    expect(lines.join('\n')).toMatch(/p99\.9.*\n.*us.*\n.*900\.0/);
    expect(lines.join('\n')).toMatch(/1 GiB +25 +100 +on +2 +on +2\.00/);
  });

  it('shows what is still to be measured', () => {
    expect(tableLines(resultOf([pointResult(write(4096), [])])).at(-1)).toMatch(/WRITE +4 KiB .* - .* 0 $/);
  });

  it('says where JavaScript was the limit', () => {
    const busy = resultOf([pointResult(write(4096), [rate(1, 990)])]);
    expect(tableLines(busy).join('\n')).toMatch(/ 1\*\n\n\* .*JavaScript was the limit /);
    expect(tableLines(full()).join('\n')).not.toContain('JavaScript');
  });
});

describe('the pictures', () => {
  it('have a panel for each kind, axes with units and no figure that is none', () => {
    const svg = renderPlots(picturesOf(full()));
    for (const words of [
      'WRITE: throughput by message size',
      'Throughput (GiB/s)',
      'CPU time (s/GiB, log scale)',
      'Half a round trip (µs, log scale)',
      'p99.9',
      'Total time (s)',
      '1 GiB, pin-all, 25 % zero, writes 100 MiB/s, 2 ch., CRC',
      'both ends on 2 x EPYC',
    ])
      expect(svg).toContain(words);
    expect(svg).not.toMatch(/NaN|undefined|Infinity/);
    expect(svg).not.toContain('READ');
  });

  it('name a series by what differs, and show peers beside ours', () => {
    const points = [false, true].map((crc) => pointResult(write(4096, crc), [rate(1)]));
    const peers = [
      { name: 'iperf3', panel: 'write' as const, points: [{ x: 4096, median: 2, low: 1, high: 3 }] },
      { name: 'QEMU', panel: 'migration' as const, points: [{ x: '1 GiB', median: 2, low: 1, high: 3 }] },
    ];
    const { panels } = picturesOf(resultOf(points, { peers }));
    const names = (title: string) =>
      panels.find((panel) => panel.title.startsWith(title))?.series.map(({ name }) => name);
    expect(names('WRITE')).toEqual(['CRC off', 'CRC on', 'iperf3']);
    expect(names('Whole')).toEqual(['rdma-migrate', 'QEMU']);
  });
});

describe('the plan', () => {
  it('has every combination once', () => {
    const points = planOf({
      ...DEFAULTS,
      sizes: [1, 2],
      crc: [false, true],
      depths: [1, 4],
      queuePairs: [1, 2],
    });
    const count = (kind: Point['kind']) => points.filter((point) => point.kind === kind).length;
    expect([count('throughput'), count('latency'), count('migration')]).toEqual([3 * 16, 3 * 4, 4]);
    expect(new Set(points.map((point) => JSON.stringify(point))).size).toBe(points.length);
  });

  it('says what neither end has the memory for', () => {
    const points = (queuePairs: number) =>
      planOf({ ...DEFAULTS, measures: ['write'], sizes: [64 << 20], queuePairs: [queuePairs] });
    expect(tooMuch(points(16))).toBeUndefined();
    expect(tooMuch(points(17))).toContain('17 queue pairs');
  });
});
