/** The curves of one migration, by uPlot. */

import { bytes, rate } from './format.js';
import uPlot from './uPlot.esm.js';

const HEIGHT = 160;
/** Two hours of points in their widest steps; the server sends fewer. */
const MOST_POINTS = 4000;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Steps that are whole in KiB, MiB and so on. */
const BINARY = Array.from({ length: 60 }, (_, power) => 2 ** power);

const axis = (values, size, incrs) => ({
  ...(incrs && { incrs }),
  stroke: () => colour('--quiet'),
  grid: { stroke: () => colour('--line'), width: 1 },
  ticks: { stroke: () => colour('--line'), width: 1 },
  values: (_plot, splits) => splits.map(values),
  size,
});

function chart(place, text, series) {
  const options = {
    width: place.clientWidth || 300,
    height: HEIGHT,
    scales: { x: { time: false }, y: { range: (_plot, _least, most) => [0, (most || 1) * 1.05] } },
    axes: [axis((value) => `${value} s`, 32), axis(text, 88, BINARY)],
    cursor: { y: false },
    legend: { live: true },
    series: [
      { label: 'time', value: (_plot, value) => (value == null ? '' : `${value.toFixed(1)} s`) },
      ...series.map(({ label, name }) => ({
        label,
        stroke: () => colour(name),
        width: 2,
        points: { show: false },
        value: (_plot, value) => (value == null ? '' : text(value)),
      })),
    ],
  };
  return new uPlot(options, [[], ...series.map(() => [])], place);
}

export class Charts {
  #points = [];
  #rate;
  #remaining;
  #resized;
  #gone = new AbortController();

  constructor(element) {
    const [rates, left] = ['rate', 'remaining'].map((name) => element.querySelector(`[data-chart=${name}]`));
    this.#rate = chart(rates, rate, [
      { label: 'sent', name: '--rate' },
      { label: 'written by the guest', name: '--dirty' },
    ]);
    this.#remaining = chart(left, bytes, [{ label: 'remaining', name: '--left' }]);
    this.#resized = new ResizeObserver(() => {
      this.#rate.setSize({ width: rates.clientWidth, height: HEIGHT });
      this.#remaining.setSize({ width: left.clientWidth, height: HEIGHT });
    });
    this.#resized.observe(element);
    // Colours are read when they are drawn.
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#draw(), {
      signal: this.#gone.signal,
    });
  }

  /** Nothing refers to it any more. */
  destroy() {
    this.#gone.abort();
    this.#resized.disconnect();
    this.#rate.destroy();
    this.#remaining.destroy();
  }

  add(points) {
    const last = this.#points.at(-1)?.at ?? -1;
    // After a reconnect the server tells all of it again.
    const kept = points.length > 0 && points[0].at <= last ? [] : this.#points;
    this.#points = [...kept, ...points].slice(-MOST_POINTS);
    this.#draw();
  }

  #draw() {
    const at = this.#points.map((point) => point.at / 1000);
    this.#rate.setData([
      at,
      this.#points.map((point) => point.rate),
      this.#points.map((point) => point.dirty),
    ]);
    this.#remaining.setData([at, this.#points.map((point) => point.remaining)]);
  }
}
