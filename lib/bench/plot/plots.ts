/**
 * What a picture is made from. Every figure is a median with its spread, every axis has a title and a unit, and a picture holds panels one
 * below the other. This says nothing about where the figures come from: `rdma-migrate bench` and the benchmarks of the repository, which add
 * peers, draw with the same code.
 *
 *     const svg = renderPlots({
 *       title: 'RDMA WRITE by message size',
 *       subtitle: '2 x AMD EPYC, Linux 6.18, Node v20.19',
 *       panels: [{
 *         kind: 'lines',
 *         title: 'Throughput',
 *         x: { title: 'Message size', unit: 'bytes', scale: 'log' },
 *         y: { title: 'Throughput', unit: 'GiB/s' },
 *         series: [
 *           { name: 'CRC off', points: [{ x: 4096, median: 1.2, low: 1.1, high: 1.3 }] },
 *           { name: 'iperf3', peer: true, points: [{ x: 4096, median: 1.3, low: 1.2, high: 1.4 }] },
 *         ],
 *       }],
 *     });
 *     const png = await svgToPng(svg);
 *
 * `kind: 'lines'` is for numbers along x (`x` of a point is a number), `kind: 'bars'` for things that are compared by name (`x` is that name):
 * one horizontal bar for each, with the figure at its end. Points whose figures are not finite, or not above zero on a log axis, are left out.
 */

/** A figure: the median of the rounds, and the least and the most of them. */
export interface PlotPoint {
  /** A number on the x axis (lines), or the name of a row (bars). */
  readonly x: number | string;
  readonly median: number;
  readonly low: number;
  readonly high: number;
}

export interface PlotSeries {
  /** For the legend; short. */
  readonly name: string;
  readonly points: readonly PlotPoint[];
  /** Somebody else's, to compare with: drawn in grey, dashed. Default false. */
  readonly peer?: boolean;
}

export interface PlotAxis {
  /** What it is: `Message size`. */
  readonly title: string;
  /** `GiB/s`, `us`, `s`. With `bytes` the ticks are written as `4 KiB`, `1 MiB`. Empty: a mere number. */
  readonly unit: string;
  /** Default linear, which begins at zero. `log` on x is of base 2, on y of base 10. */
  readonly scale?: 'linear' | 'log';
}

export interface PlotPanel {
  /** Default `lines`. */
  readonly kind?: 'lines' | 'bars';
  readonly title: string;
  /** Of bars: only its title is shown. */
  readonly x: PlotAxis;
  readonly y: PlotAxis;
  readonly series: readonly PlotSeries[];
}

export interface Plots {
  readonly title: string;
  /** The machine, versions, what was measured with. */
  readonly subtitle?: string;
  readonly panels: readonly PlotPanel[];
}
