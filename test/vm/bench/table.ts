/** What was measured, as rows. Pure functions. */
import { median, type Spread, spreadOf } from '../../../bench/support/statistics.ts';

/** One way of moving RAM; a value for each round. */
export interface Samples {
  readonly name: string;
  /** bytes/s while RAM moves */
  readonly rates?: readonly number[];
  /** seconds of a whole migration */
  readonly totals?: readonly number[];
  /** Seconds of each phase of a migration. */
  readonly phases?: readonly Readonly<Record<string, number>>[];
  /** Seconds of CPU, of both ends. */
  readonly cpu?: readonly number[];
  /** The samples that the totals are compared with. */
  readonly against?: string;
}

export interface Row {
  readonly name: string;
  readonly rate?: Spread;
  /** To the first samples' of the same round: the median. */
  readonly rateRatio?: number;
  readonly total?: Spread;
  readonly against?: string;
  /** To that of `against` of the same round: the median. */
  readonly totalRatio?: number;
  /** Medians. */
  readonly phases?: Readonly<Record<string, number>>;
  readonly cpu?: number;
}

const ratio = (values: readonly number[], others: readonly number[] = []): number =>
  median(values.map((value, round) => value / (others[round] ?? Number.NaN)));

function phasesOf(all: readonly Readonly<Record<string, number>>[]): Record<string, number> {
  const names = [...new Set(all.flatMap((phases) => Object.keys(phases)))];
  return Object.fromEntries(names.map((name) => [name, median(all.map((phases) => phases[name] ?? 0))]));
}

/** The first samples are what the others' rates are compared with. */
export function rowsOf(all: readonly Samples[]): Row[] {
  return all.map(({ name, rates, totals, phases, cpu, against }) => {
    const other = all.find((samples) => samples.name === against);
    return {
      name,
      ...(rates && { rate: spreadOf(rates), rateRatio: ratio(rates, all[0]?.rates) }),
      ...(totals && { total: spreadOf(totals) }),
      ...(totals && other?.totals && { against: other.name, totalRatio: ratio(totals, other.totals) }),
      ...(phases && { phases: phasesOf(phases) }),
      ...(cpu && { cpu: median(cpu) }),
    };
  });
}

const COLUMNS = [40, 26, 8, 26, 10, 8] as const;
const HEADS = ['', 'MB/s least median most', 'ratio', 'total s least median most', 'ratio', 'CPU s'];

const figures = (of: Spread | undefined, digits: number, unit = 1): string =>
  of === undefined
    ? ''
    : [of.least, of.median, of.most].map((value) => (value / unit).toFixed(digits).padStart(8)).join('');

const line = (cells: readonly string[]): string =>
  cells
    .map((text, at) => (at === 0 ? text.padEnd(COLUMNS[0]) : text.padStart(COLUMNS[at] ?? 0)))
    .join('')
    .trimEnd();

const times = (value: number | undefined): string => (value === undefined ? '' : `x${value.toFixed(2)}`);

/** Rates compare with the first row, totals with the row that is named below. */
export function tableOf(rows: readonly Row[]): string {
  const lines = rows.map(({ name, rate, rateRatio, total, totalRatio, cpu }) =>
    line([
      name,
      figures(rate, 1, 1e6),
      times(rateRatio),
      figures(total, 2),
      times(totalRatio),
      cpu?.toFixed(2) ?? '',
    ]),
  );
  const notes = rows.flatMap(({ name, against, phases }) => [
    ...(against === undefined ? [] : [`${name}: total against ${against}`]),
    ...(phases === undefined ? [] : [`${name}: ${phaseText(phases)}`]),
  ]);
  return [line(HEADS), ...lines, '', ...notes].join('\n');
}

const phaseText = (phases: Readonly<Record<string, number>>): string =>
  Object.entries(phases)
    .map(([name, seconds]) => `${name} ${seconds.toFixed(3)}`)
    .join(', ');
