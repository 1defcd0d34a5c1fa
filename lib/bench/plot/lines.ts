/** A panel of lines: figures along numbers. */
import { marker, uprightSpread } from './marker.ts';
import type { PlotAxis, PlotPanel, PlotPoint } from './plots.ts';
import { drawable, makeScale, type Scale } from './scale.ts';
import { INK, type Look, looksOf, SIZE, WIDTH } from './style.ts';
import { element, line, text } from './svg.ts';

const LEFT = 84;
const RIGHT = WIDTH - 24;
const HEIGHT = 300;
const BELOW = 50;
/** Between the spread bars of two series at the same x. */
const ASIDE = 3;

export interface Drawn {
  readonly markup: string;
  readonly height: number;
}

/** The panel with its upper edge at `top`, without title and legend. */
export function drawLines(panel: PlotPanel, top: number): Drawn {
  const bottom = top + HEIGHT;
  const series = panel.series.map(({ points }) => withNumbers(drawable(points, panel.y), panel.x));
  const xs = series.flatMap((points) => points.map(({ x }) => x));
  const ys = series.flatMap((points) => points.flatMap(({ low, high, median }) => [low, high, median]));
  const x = makeScale(panel.x, xs, LEFT + 16, RIGHT - 16, 2);
  const y = makeScale(panel.y, ys, bottom, top + 8, 10);
  const looks = looksOf(panel.series);
  const lines = series.map((points, index) => {
    const aside = (index - (series.length - 1) / 2) * ASIDE;
    return drawSeries(points, looks[index] as Look, (value) => x.at(value) + aside, y);
  });
  return {
    markup: axes(panel, x, y, top, bottom) + lines.join(''),
    height: HEIGHT + BELOW,
  };
}

type NumberedPoint = PlotPoint & { readonly x: number };

function withNumbers(points: readonly PlotPoint[], axis: PlotAxis): NumberedPoint[] {
  return points
    .filter(
      (point): point is NumberedPoint =>
        typeof point.x === 'number' && Number.isFinite(point.x) && (axis.scale !== 'log' || point.x > 0),
    )
    .sort((a, b) => a.x - b.x);
}

function drawSeries(
  points: readonly NumberedPoint[],
  look: Look,
  x: (value: number) => number,
  y: Scale,
): string {
  const { colour, dash } = look;
  const path = points.map(({ x: value, median }) => `${x(value).toFixed(2)},${y.at(median).toFixed(2)}`);
  const stroke = { fill: 'none', stroke: colour, 'stroke-width': 2, 'stroke-dasharray': dash };
  const spreads = points.map(({ x: value, low, high }) =>
    uprightSpread(x(value), y.at(low), y.at(high), colour),
  );
  const markers = points.map(({ x: value, median }) => marker(x(value), y.at(median), look));
  const joined = path.length > 1 ? element('polyline', { points: path.join(' '), ...stroke }) : '';
  return joined + spreads.join('') + markers.join('');
}

function axes({ x: xAxis, y: yAxis }: PlotPanel, x: Scale, y: Scale, top: number, bottom: number): string {
  const grid = { stroke: INK.grid, 'stroke-width': 1 };
  const tick = { 'font-size': SIZE.tick, fill: INK.soft };
  const parts = y.ticks.map(
    ({ at, label }) =>
      line(LEFT, at, RIGHT, at, grid) + text(label, LEFT - 8, at + 4, { ...tick, 'text-anchor': 'end' }),
  );
  for (const { at, label } of x.ticks)
    parts.push(
      line(at, top, at, bottom, grid),
      text(label, at, bottom + 17, { ...tick, 'text-anchor': 'middle' }),
    );
  const middle = (top + bottom) / 2;
  const label = { 'font-size': SIZE.label, fill: INK.text, 'text-anchor': 'middle' };
  parts.push(
    line(LEFT, bottom, RIGHT, bottom, { stroke: INK.axis, 'stroke-width': 1 }),
    text(axisTitle(xAxis), (LEFT + RIGHT) / 2, bottom + 38, label),
    text(axisTitle(yAxis), 20, middle, { ...label, transform: `rotate(-90 20 ${middle})` }),
  );
  return parts.join('');
}

/** `Throughput (GiB/s)`; sizes in bytes have their unit at every mark. */
export function axisTitle({ title, unit, scale }: PlotAxis): string {
  const logarithmic = scale === 'log' ? ', log scale' : '';
  return unit === '' ? `${title}${logarithmic}` : `${title} (${unit}${logarithmic})`;
}
