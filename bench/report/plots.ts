/** Pictures of what `npm run bench` measured. Pure. */
import {
  type PlotPanel,
  type PlotPoint,
  type PlotSeries,
  type Plots,
  renderPlots,
} from '../../lib/bench/plot/index.ts';
import { machineText, type Report } from '../support/report.ts';
import { spreadOf } from '../support/statistics.ts';
import { rates } from '../throughput/figures.ts';
import { type MeasuredGroup, type MeasuredRow, samplesSchema } from '../throughput/sample.ts';

const GIB = 2 ** 30;

type Values = (row: MeasuredRow) => readonly number[];

const cpu: Values = ({ samples, bytes }) =>
  samples.flatMap(({ cpuSeconds }) => (cpuSeconds === undefined ? [] : [(cpuSeconds * GIB) / bytes]));
const total: Values = ({ samples }) => samples.map(({ seconds }) => seconds);
const perGib: Values = ({ samples, bytes }) => samples.map(({ seconds }) => (seconds * GIB) / bytes);

function points(
  rows: readonly MeasuredRow[],
  values: Values,
  x: (row: MeasuredRow) => string | number,
): PlotPoint[] {
  return rows.flatMap((row) => {
    const all = values(row);
    if (all.length === 0) return [];
    const { least, median, most } = spreadOf(all);
    return [{ x: x(row), median, low: least, high: most }];
  });
}

/** What was not measured has no place in a legend. */
const measured = (series: readonly PlotSeries[]): PlotSeries[] =>
  series.filter(({ points }) => points.length > 0);

/** A bar for each row, ours and those of others apart. */
function bars(rows: readonly MeasuredRow[], values: Values, y: { title: string; unit: string }): PlotPanel {
  const series = [
    { name: 'rdma-migrate', ours: true },
    { name: 'peers and limits', ours: false },
  ].map(({ name, ours }) => ({
    name,
    peer: !ours,
    points: points(
      rows.filter(({ kind }) => (kind === 'ours') === ours),
      values,
      ({ label }) => label,
    ),
  }));
  return { kind: 'bars', title: y.title, x: { title: '', unit: '' }, y, series: measured(series) };
}

const RATE = { title: 'Rate: more is better', unit: 'GB/s' };
const CPU = { title: 'CPU time of both ends: less is better', unit: 's/GiB' };
const TIME = { title: 'Time of all of it: less is better', unit: 's' };

function flat(rows: readonly MeasuredRow[]): PlotPanel {
  const line = (name: string, kind: MeasuredRow['kind']) => ({
    name,
    peer: kind !== 'ours',
    points: points(
      rows.filter((row) => row.kind === kind),
      perGib,
      ({ bytes }) => bytes,
    ),
  });
  return {
    kind: 'lines',
    title: 'Time a GiB by size of the VM: flat is good',
    x: { title: 'RAM', unit: 'bytes', scale: 'log' },
    y: { title: 'Time', unit: 's/GiB' },
    series: measured([line('rdma-migrate, dynamic', 'ours'), line('first touch by pwrite alone', 'limit')]),
  };
}

/** memcpy is several times what a wire can do, and would flatten the rest. */
const withoutMemcpy = (rows: readonly MeasuredRow[]): MeasuredRow[] =>
  rows.filter(({ id }) => id !== 'memcpy');

function panelsOf({ name, rows }: MeasuredGroup): { title: string; panels: PlotPanel[] } {
  switch (name) {
    case 'touched':
      return {
        title: 'RAM phase into touched memory',
        panels: [bars(withoutMemcpy(rows), rates, RATE), bars(withoutMemcpy(rows), cpu, CPU)],
      };
    case 'fresh':
      return {
        title: 'Whole migrations into fresh memory',
        panels: [bars(rows, total, TIME), bars(rows, cpu, CPU)],
      };
    case 'flat-touched':
      return { title: 'Whole migrations by size, into touched memory', panels: [flat(rows)] };
    case 'flat':
      return { title: 'Whole migrations by size, into fresh memory', panels: [flat(rows)] };
    case 'tls':
      return { title: 'Encrypted migrations', panels: [bars(rows, rates, RATE), bars(rows, cpu, CPU)] };
    default:
      return { title: 'Sparse RAM', panels: [bars(rows, total, TIME)] };
  }
}

export interface Picture {
  /** Of the group. */
  readonly id: string;
  readonly title: string;
  readonly svg: string;
}

export function picturesOf(report: Report): Picture[] {
  if (report.bench !== 'throughput') return [];
  return samplesSchema.parse(report.samples).map((group) => {
    const { title, panels } = panelsOf(group);
    const plots: Plots = { title, subtitle: machineText(report.machine), panels };
    return { id: group.name, title, svg: `${renderPlots(plots)}\n` };
  });
}
