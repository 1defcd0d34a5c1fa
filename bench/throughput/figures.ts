/** What the samples of a run come to: tables. Pure. */
import { medianOf, spreadOf } from '../support/statistics.ts';
import type { Cell, Column, Table } from '../support/table.ts';
import type { MeasuredGroup, MeasuredRow, Sample } from './sample.ts';

const GIB = 2 ** 30;

type Figure = Column & { readonly of: (row: MeasuredRow, group: MeasuredGroup) => Cell };

export const seconds = ({ samples }: MeasuredRow): number =>
  spreadOf(samples.map((sample) => sample.seconds)).median;
const gibOf = ({ bytes }: MeasuredRow): number => bytes / GIB;

export const cpuPerGib = (row: MeasuredRow): number | undefined => {
  const cpu = medianOf(row.samples, ({ cpuSeconds }) => cpuSeconds);
  return cpu === undefined ? undefined : cpu / gibOf(row);
};

/** GB/s of each sample. */
export const rates = ({ samples, bytes }: MeasuredRow): number[] =>
  samples.map((sample) => bytes / sample.seconds / 1e9);

export const rowById = (group: MeasuredGroup | undefined, id: string): MeasuredRow | undefined =>
  group?.rows.find((row) => row.id === id);

function toBaseline(row: MeasuredRow, group: MeasuredGroup): Cell {
  const baseline = rowById(group, group.baseline);
  if (!baseline) return null;
  const share = (row.bytes / seconds(row)) * (seconds(baseline) / baseline.bytes);
  return share;
}

const median =
  (figure: (sample: Sample) => number | undefined) =>
  (row: MeasuredRow): Cell =>
    medianOf(row.samples, figure) ?? null;

const rate =
  (which: 'least' | 'median' | 'most') =>
  (row: MeasuredRow): Cell =>
    spreadOf(rates(row))[which];

const SPEED: readonly Figure[] = [
  { head: '', of: ({ label }) => label },
  { head: 'median', unit: 'GB/s', of: rate('median') },
  { head: 'least', unit: 'GB/s', of: rate('least') },
  { head: 'most', unit: 'GB/s', of: rate('most') },
  { head: 'to baseline', unit: 'ratio', of: toBaseline },
  { head: 'CPU, both ends', unit: 's/GiB', of: (row) => cpuPerGib(row) ?? null },
  { head: 'whole migration', unit: 's', digits: 3, of: median(({ totalSeconds }) => totalSeconds) },
  {
    head: 'per GiB',
    unit: 's/GiB',
    digits: 3,
    of: (row) => (medianOf(row.samples, ({ totalSeconds }) => totalSeconds) ?? seconds(row)) / gibOf(row),
  },
  { head: 'channels', digits: 0, of: median(({ channels }) => channels) },
  {
    head: 'resident',
    unit: 'MiB',
    digits: 0,
    of: (row) =>
      row.samples[0]?.peakMiB === undefined
        ? null
        : Math.max(...row.samples.map(({ peakMiB = 0 }) => peakMiB)),
  },
];

const CONTROL: readonly Figure[] = [
  { head: '', of: ({ label }) => label },
  {
    head: 'messages',
    unit: 'a GiB',
    digits: 1,
    of: (row) => perGib(row, ({ control }) => control?.messages),
  },
  { head: 'waits for READY', unit: 'ms', digits: 1, of: median(({ control }) => control?.['ready-wait']) },
  { head: 'waits for keys', unit: 'ms', digits: 1, of: median(({ control }) => control?.['key-wait']) },
  { head: 'nothing posted', unit: 'ms', digits: 1, of: median(({ control }) => control?.idle) },
  {
    head: 'of the time',
    unit: '%',
    digits: 1,
    of: median(({ control, seconds }) => control && control.idle / seconds / 10),
  },
];

function perGib(row: MeasuredRow, figure: (sample: Sample) => number | undefined): Cell {
  const value = medianOf(row.samples, figure);
  return value === undefined ? null : value / gibOf(row);
}

function table(
  id: string,
  title: string,
  figures: readonly Figure[],
  rows: readonly MeasuredRow[],
  group: MeasuredGroup,
): Table {
  const cells = rows.map((row) => figures.map(({ of }) => of(row, group)));
  // A column without any figure says nothing.
  const used = figures.map((_, at) => cells.some((line) => line[at] !== null));
  const columns = figures.map(({ of: _, ...column }) => column);
  return {
    id,
    title,
    columns: columns.filter((_, at) => used[at]),
    rows: cells.map((line) => line.filter((_, at) => used[at])),
  };
}

/** The speeds of a group, and what control messages cost it if it is known. */
export function tablesOf(group: MeasuredGroup): Table[] {
  const notes = group.notes.map((note) => `\n(${note})`).join('');
  const baseline = rowById(group, group.baseline)?.label ?? group.baseline;
  const title = `${group.title}; the baseline is: ${baseline}${notes}`;
  const speed = table(group.name, title, SPEED, group.rows, group);
  const known = group.rows.filter(({ samples }) => samples.some(({ control }) => control));
  if (known.length === 0) return [speed];
  const controls = `${group.name}: control messages, and what waiting for them costs the passes over RAM`;
  return [speed, table(`${group.name}-control`, controls, CONTROL, known, group)];
}
