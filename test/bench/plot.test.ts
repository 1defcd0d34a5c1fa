import { describe, expect, it } from 'vitest';
import { type PlotPanel, type Plots, renderPlots, svgToPng } from '../../lib/bench/plot/index.ts';

const throughput: PlotPanel = {
  title: 'WRITE throughput',
  x: { title: 'Message size', unit: 'bytes', scale: 'log' },
  y: { title: 'Throughput', unit: 'GiB/s' },
  series: [
    {
      name: 'CRC off',
      points: [
        { x: 4096, median: 1.2, low: 1, high: 1.3 },
        { x: 1 << 20, median: 4, low: 3.5, high: 4.2 },
      ],
    },
    { name: 'iperf3', peer: true, points: [{ x: 4096, median: 1.5, low: 1.4, high: 1.6 }] },
  ],
};
const migrations: PlotPanel = {
  kind: 'bars',
  title: 'Whole migrations',
  x: { title: 'Migration', unit: '' },
  y: { title: 'Total time', unit: 's' },
  series: [{ name: 'ours', points: [{ x: '1 GiB, pin-all', median: 0.8, low: 0.7, high: 0.9 }] }],
};
const plots = (...panels: PlotPanel[]): Plots => ({ title: 'Bench', subtitle: 'this machine', panels });

/** Every number of the document's attributes. */
const numbersOf = (svg: string): number[] =>
  [...svg.matchAll(/ (?:x|y|x1|x2|y1|y2|cx|cy|width|height)="([^"]*)"/g)].map(([, value]) => Number(value));

describe('a picture', () => {
  it('names its axes with their units, its series, its panels and what the spread is', () => {
    const svg = renderPlots(plots(throughput, migrations));
    for (const words of [
      'Message size (bytes, log scale)',
      'Throughput (GiB/s)',
      'Total time (s)',
      'CRC off',
      'iperf3',
      'WRITE throughput',
      '1 GiB, pin-all',
      '0.8 s',
      '4 KiB',
      '1 MiB',
      'this machine',
      'medians of the rounds',
    ])
      expect(svg).toContain(`>${words}`.replace('>medians', 'medians'));
  });

  it('draws every point with its spread, higher figures higher', () => {
    const svg = renderPlots(plots({ ...throughput, series: throughput.series.slice(0, 1) }));
    const heights = [...svg.matchAll(/<circle cx="[\d.]+" cy="([\d.]+)"/g)].map(([, y]) => Number(y));
    expect(heights).toHaveLength(2);
    expect(heights[1]).toBeLessThan(heights[0] as number);
    // a spread is an upright line and two caps
    expect(svg.match(/stroke-width="1.3"/g)).toHaveLength(6);
  });

  it('holds only numbers, within its own width, whatever the figures are', () => {
    const odd = [Number.NaN, Number.POSITIVE_INFINITY, -1, 0, 1e-12, 1e300];
    const points = odd.map((value, index) => ({
      x: odd[(index * 5 + 1) % 6] as number,
      median: value,
      low: value,
      high: value,
    }));
    for (const kind of ['lines', 'bars'] as const) {
      for (const scale of ['linear', 'log'] as const) {
        const axis = { title: 'a', unit: 'b', scale };
        for (const some of [[], points.slice(3, 4), points]) {
          const svg = renderPlots(
            plots({ kind, title: '', x: axis, y: axis, series: [{ name: '', points: some }] }),
          );
          expect(svg).not.toMatch(/NaN|Infinity|undefined/);
          for (const number of numbersOf(svg)) {
            expect(number).toBeGreaterThanOrEqual(-1);
            expect(number).toBeLessThanOrEqual(1_500);
          }
        }
      }
    }
  });

  it('takes any text as text', () => {
    const svg = renderPlots({ ...plots(throughput), title: '<script>&"\u0000\u0007' });
    expect(svg).toContain('&lt;script&gt;&amp;&quot;??');
    expect(svg).not.toContain('<script>');
  });

  it('becomes a PNG with words in it', async () => {
    const png = Buffer.from(await svgToPng(renderPlots(plots(throughput))));
    expect(png.subarray(1, 4).toString()).toBe('PNG');
    expect(png.readUInt32BE(16)).toBe(1_800);
    const bare = Buffer.from(
      await svgToPng(renderPlots(plots(throughput)).replace(/<text[^>]*>[^<]*<\/text>/g, '')),
    );
    expect(png.length).toBeGreaterThan(bare.length * 1.2);
  });
});
