/** A panel of bars: figures of things that have names. */
import type { Drawn } from './lines.ts';
import { axisTitle } from './lines.ts';
import { lyingSpread } from './marker.ts';
import type { PlotPanel, PlotPoint } from './plots.ts';
import { drawable, makeScale, numberLabel, type Scale } from './scale.ts';
import { INK, type Look, looksOf, SIZE, WIDTH } from './style.ts';
import { element, line, text, textWidth } from './svg.ts';

const BAR = 20;
const BETWEEN_BARS = 4;
const BETWEEN_ROWS = 12;
const BELOW = 50;
/** For the figures at the ends of the bars. */
const FIGURES = 130;
const LONGEST_NAME = 330;

interface Row {
  readonly name: string;
  readonly bars: readonly { readonly point: PlotPoint; readonly look: Look }[];
}

/** The panel with its upper edge at `top`, without title and legend. */
export function drawBars(panel: PlotPanel, top: number): Drawn {
  const rows = rowsOf(panel);
  const widest = Math.max(0, ...rows.map(({ name }) => textWidth(name, SIZE.label)));
  const left = 24 + Math.min(LONGEST_NAME, widest);
  const right = WIDTH - FIGURES;
  const values = rows.flatMap(({ bars }) => bars.flatMap(({ point }) => [point.high, point.median]));
  const scale = makeScale(panel.y, values, left, right, 10);
  let y = top + BETWEEN_ROWS;
  const parts: string[] = [];
  for (const { name, bars } of rows) {
    const height = bars.length * (BAR + BETWEEN_BARS) - BETWEEN_BARS;
    parts.push(
      text(name, left - 8, y + height / 2 + 4, {
        'font-size': SIZE.label,
        fill: INK.text,
        'text-anchor': 'end',
      }),
    );
    for (const bar of bars) {
      parts.push(drawBar(bar.point, bar.look, y, left, scale, panel.y.unit));
      y += BAR + BETWEEN_BARS;
    }
    y += BETWEEN_ROWS - BETWEEN_BARS;
  }
  return { markup: grid(panel, scale, left, right, top, y) + parts.join(''), height: y - top + BELOW };
}

/** A row for each name, in the order in which the series have them. */
function rowsOf({ series, y }: PlotPanel): readonly Row[] {
  const looks = looksOf(series);
  const rows = new Map<string, { point: PlotPoint; look: Look }[]>();
  for (const [index, { points }] of series.entries()) {
    for (const point of drawable(points, y)) {
      const bars = rows.get(String(point.x)) ?? [];
      bars.push({ point, look: looks[index] as Look });
      rows.set(String(point.x), bars);
    }
  }
  return [...rows].map(([name, bars]) => ({ name, bars }));
}

function drawBar(
  { median, low, high }: PlotPoint,
  { colour }: Look,
  y: number,
  left: number,
  scale: Scale,
  unit: string,
): string {
  const end = scale.at(median);
  const middle = y + BAR / 2;
  const bar = element('rect', {
    x: left,
    y,
    width: Math.max(0, end - left),
    height: BAR,
    fill: colour,
    'fill-opacity': 0.75,
  });
  const figure = text(
    `${numberLabel(median)} ${unit}`.trim(),
    scale.at(Math.max(high, median)) + 8,
    middle + 4,
    {
      'font-size': SIZE.tick,
      fill: INK.text,
    },
  );
  return bar + lyingSpread(middle, scale.at(low), scale.at(high), INK.text) + figure;
}

function grid(
  panel: PlotPanel,
  scale: Scale,
  left: number,
  right: number,
  top: number,
  bottom: number,
): string {
  const tick = { 'font-size': SIZE.tick, fill: INK.soft, 'text-anchor': 'middle' };
  const marks = scale.ticks.map(
    ({ at, label }) =>
      line(at, top, at, bottom, { stroke: INK.grid, 'stroke-width': 1 }) + text(label, at, bottom + 17, tick),
  );
  const title = text(axisTitle(panel.y), (left + right) / 2, bottom + 38, {
    'font-size': SIZE.label,
    fill: INK.text,
    'text-anchor': 'middle',
  });
  return marks.join('') + line(left, top, left, bottom, { stroke: INK.axis, 'stroke-width': 1 }) + title;
}
