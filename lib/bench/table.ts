/** The result as a table, line by line: one section for each kind of measurement, each column with its head and unit. */
import { bytesLabel } from './plot/scale.ts';
import type {
  BenchResult,
  LatencyResult,
  MigrationPointResult,
  PointResult,
  ThroughputResult,
} from './result.ts';
import type { Figure } from './statistics.ts';

/** From here on JavaScript is what limits: its thread has hardly a pause. */
const BUSY = 0.95;

interface Column<T> {
  readonly head: string;
  readonly unit: string;
  readonly width: number;
  readonly cell: (point: T) => string;
}

interface Section {
  readonly title: string;
  /** Two lines. */
  readonly heads: readonly string[];
  readonly row: (point: PointResult) => string;
}

const crc: Column<{ crc: boolean }> = {
  head: 'CRC',
  unit: '',
  width: 4,
  cell: ({ crc }) => (crc ? 'on' : 'off'),
};
const cpu: Column<PointResult>[] = (['here', 'there'] as const).map((end) => ({
  head: `CPU ${end}`,
  unit: 's/GiB',
  width: 10,
  cell: ({ cpuSecondsPerGib }) => fixed(cpuSecondsPerGib?.[end].median, 2),
}));
const rounds: Column<PointResult> = {
  head: 'rounds',
  unit: '',
  width: 7,
  cell: (point) => `${point.rounds}${limitedByJavaScript(point) ? '*' : ' '}`,
};
const rate: Column<ThroughputResult | MigrationPointResult> = {
  head: 'median',
  unit: 'GiB/s',
  width: 8,
  cell: ({ bytesPerSecond }) => fixed(gib(bytesPerSecond?.median), 2),
};
const spread: Column<ThroughputResult | MigrationPointResult> = {
  head: 'least-most',
  unit: 'GiB/s',
  width: 12,
  cell: ({ bytesPerSecond }) => range(bytesPerSecond, gib),
};

const THROUGHPUT: readonly Column<ThroughputResult>[] = [
  { head: 'what', unit: '', width: -6, cell: ({ operation }) => operation.toUpperCase() },
  { head: 'size', unit: '', width: 9, cell: ({ messageBytes }) => bytesLabel(messageBytes) },
  { head: 'depth', unit: '', width: 6, cell: ({ depth }) => String(depth) },
  { head: 'QPs', unit: '', width: 4, cell: ({ queuePairs }) => String(queuePairs) },
  crc,
  rate,
  spread,
  {
    head: 'messages',
    unit: '1000/s',
    width: 10,
    cell: ({ messagesPerSecond }) => fixed(messagesPerSecond && messagesPerSecond.median / 1000, 1),
  },
  ...cpu,
  rounds,
];

const LATENCY: readonly Column<LatencyResult>[] = [
  { head: 'what', unit: '', width: -6, cell: ({ operation }) => operation.toUpperCase() },
  { head: 'size', unit: '', width: 9, cell: ({ messageBytes }) => bytesLabel(messageBytes) },
  crc,
  ...(['p50', 'p99', 'p999'] as const).flatMap((name) => [
    {
      head: name === 'p999' ? 'p99.9' : name,
      unit: 'us',
      width: 9,
      cell: ({ microseconds }: LatencyResult) => fixed(microseconds?.[name].median, 1),
    },
    {
      head: 'least-most',
      unit: 'us',
      width: 16,
      cell: ({ microseconds }: LatencyResult) => range(microseconds?.[name], (value) => value, 1),
    },
  ]),
  rounds,
];

const MIGRATION: readonly Column<MigrationPointResult>[] = [
  { head: 'RAM', unit: '', width: 9, cell: ({ ramBytes }) => bytesLabel(ramBytes) },
  { head: 'zero', unit: '%', width: 5, cell: ({ zeroPercent }) => String(zeroPercent) },
  {
    head: 'writes',
    unit: 'MiB/s',
    width: 7,
    cell: ({ dirtyRate }) => String(Math.round(dirtyRate / 2 ** 20)),
  },
  { head: 'pin-all', unit: '', width: 8, cell: ({ pinAll }) => (pinAll ? 'on' : 'off') },
  { head: 'chan.', unit: '', width: 6, cell: ({ channels }) => (channels === 0 ? 'auto' : String(channels)) },
  crc,
  { head: 'total', unit: 's', width: 8, cell: ({ totalSeconds }) => fixed(totalSeconds?.median, 2) },
  {
    head: 'least-most',
    unit: 's',
    width: 12,
    cell: ({ totalSeconds }) => range(totalSeconds, (value) => value),
  },
  { head: 'RAM', unit: 's', width: 7, cell: ({ ramSeconds }) => fixed(ramSeconds?.median, 2) },
  {
    head: 'stop',
    unit: 'ms',
    width: 6,
    cell: ({ downtimeSeconds: down }) => fixed(down && down.median * 1000, 0),
  },
  {
    head: 'overall',
    unit: 'GiB/s',
    width: 8,
    cell: ({ bytesPerSecond }) => fixed(gib(bytesPerSecond?.median), 2),
  },
  ...cpu,
  { ...rounds, cell: ({ rounds: done }) => `${done} ` },
];

const SECTIONS: Readonly<Record<PointResult['kind'], Section>> = {
  throughput: section('Throughput', THROUGHPUT),
  latency: section('Latency of one message at a time: half a round trip; of a READ the whole of it', LATENCY),
  migration: section('Whole migrations into fresh memory', MIGRATION),
};

const JAVASCRIPT_NOTE =
  '* an event loop had no pause: JavaScript was the limit (a larger --depth posts more with each call), or no processor was to spare';

/** Title and heads of a kind. */
export function sectionHead(kind: PointResult['kind']): readonly string[] {
  const { title, heads } = SECTIONS[kind];
  return ['', title, ...heads];
}

export function tableRow(point: PointResult): string {
  return SECTIONS[point.kind].row(point);
}

/** What stands below it. */
export function tableNotes({ points }: BenchResult): readonly string[] {
  return points.some(limitedByJavaScript) ? ['', JAVASCRIPT_NOTE] : [];
}

/** All of it. */
export function tableLines(result: BenchResult): readonly string[] {
  const lines: string[] = [];
  let kind: PointResult['kind'] | undefined;
  for (const point of result.points) {
    if (point.kind !== kind) lines.push(...sectionHead(point.kind));
    kind = point.kind;
    lines.push(tableRow(point));
  }
  return [...lines, ...tableNotes(result)];
}

/** Latency always waits for one message, and busy loops are no limit there. */
export function limitedByJavaScript({ kind, loopBusy }: PointResult): boolean {
  if (kind !== 'throughput' || loopBusy === undefined) return false;
  return Math.max(loopBusy.here.median, loopBusy.there.median) >= BUSY;
}

function section<T extends PointResult>(title: string, columns: readonly Column<T>[]): Section {
  const heads = (['head', 'unit'] as const).map((name) =>
    columns.map((column) => padded(column[name], column.width)).join(''),
  );
  return {
    title,
    heads,
    row: (point) => columns.map(({ cell, width }) => padded(cell(point as T), width)).join(''),
  };
}

/** Negative: to the left. */
function padded(text: string, width: number): string {
  return width < 0 ? text.padEnd(-width) : ` ${text}`.padStart(width);
}

const gib = (bytes: number | undefined): number | undefined => bytes && bytes / 2 ** 30;

function fixed(value: number | undefined, digits: number): string {
  return value === undefined || !Number.isFinite(value) ? '-' : value.toFixed(digits);
}

function range(figure: Figure | undefined, unit: (value: number) => number | undefined, digits = 2): string {
  if (figure === undefined) return '';
  return `${fixed(unit(figure.min), digits)}-${fixed(unit(figure.max), digits)}`;
}
