/** Where a figure lies on an axis, and which figures are written there. */
import { scaleLinear, scaleLog } from 'd3-scale';
import type { PlotAxis, PlotPoint } from './plots.ts';

export interface Scale {
  /** A pixel; what lies outside is put at the edge. */
  at(value: number): number;
  readonly ticks: readonly { readonly at: number; readonly label: string }[];
}

const TICKS = 6;
/** More marks than this on a log axis of base 2, and every second one is left out. */
const MOST_POWERS = 13;

/** `from` and `to`: pixels of the least and the most. */
export function makeScale(
  axis: PlotAxis,
  values: readonly number[],
  from: number,
  to: number,
  base: 2 | 10,
): Scale {
  return axis.scale === 'log' ? logScale(axis, values, from, to, base) : linearScale(axis, values, from, to);
}

function linearScale(axis: PlotAxis, values: readonly number[], from: number, to: number): Scale {
  const most = Math.max(0, ...values);
  const scale = scaleLinear()
    .domain([0, most === 0 ? 1 : most * 1.02])
    .range([from, to])
    .nice(TICKS)
    .clamp(true);
  const write = scale.tickFormat(TICKS);
  const label = (value: number): string => (axis.unit === 'bytes' ? bytesLabel(value) : write(value));
  return { at: scale, ticks: scale.ticks(TICKS).map((value) => ({ at: scale(value), label: label(value) })) };
}

function logScale(axis: PlotAxis, values: readonly number[], from: number, to: number, base: 2 | 10): Scale {
  const positive = values.filter((value) => value > 0);
  let [least, most] = positive.length === 0 ? [1, base] : [Math.min(...positive), Math.max(...positive)];
  if (base === 10) [least, most] = [roundDown(least), roundUp(most)];
  if (least === most) [least, most] = [least / 2, most * 2];
  const scale = scaleLog().base(base).domain([least, most]).range([from, to]).clamp(true);
  const marks = base === 2 ? powersOfTwo(least, most) : oneTwoFive(least, most);
  return { at: scale, ticks: marks.map((value) => ({ at: scale(value), label: labelOf(axis, value) })) };
}

function labelOf(axis: PlotAxis, value: number): string {
  return axis.unit === 'bytes' ? bytesLabel(value) : numberLabel(value);
}

function powersOfTwo(least: number, most: number): number[] {
  const [first, last] = [Math.ceil(Math.log2(least) - 1e-9), Math.floor(Math.log2(most) + 1e-9)];
  const step = Math.ceil((last - first + 1) / MOST_POWERS);
  const marks: number[] = [];
  for (let power = first; power <= last; power += Math.max(1, step)) marks.push(2 ** power);
  return marks;
}

/** 1, 2, 5, 10, 20, ...; over more than four decades only the powers of ten. */
function oneTwoFive(least: number, most: number): number[] {
  const factors = most / least > 1e4 ? [1] : [1, 2, 5];
  const marks: number[] = [];
  for (let power = Math.floor(Math.log10(least)); power <= Math.ceil(Math.log10(most)); power++) {
    for (const factor of factors) marks.push(Number(`${factor}e${power}`));
  }
  return marks.filter((mark) => mark >= least * 0.999 && mark <= most * 1.001);
}

function roundDown(value: number): number {
  return oneTwoFive(value / 10, value).at(-1) ?? value;
}

function roundUp(value: number): number {
  return oneTwoFive(value, value * 10)[0] ?? value;
}

/** `4 KiB`, `1.5 MiB`. */
export function bytesLabel(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  const unit = value <= 0 ? 0 : Math.min(units.length - 1, Math.floor(Math.log2(value) / 10));
  return `${numberLabel(value / 1024 ** Math.max(0, unit))} ${units[Math.max(0, unit)]}`;
}

/** Three digits or so, without an exponent where one would be read badly. */
export function numberLabel(value: number): string {
  if (value === 0) return '0';
  const digits = Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value))));
  return Number(value.toFixed(Math.min(8, digits))).toLocaleString('en-US', { maximumFractionDigits: 8 });
}

/** Those that can be drawn. */
export function drawable(points: readonly PlotPoint[], axis: PlotAxis): readonly PlotPoint[] {
  return points.filter(({ median, low, high }) =>
    [median, low, high].every((value) => Number.isFinite(value) && (axis.scale !== 'log' || value > 0)),
  );
}
