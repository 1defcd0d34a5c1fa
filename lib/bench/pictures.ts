/** The result as pictures: a panel for each operation, for latency and for migrations, peers beside ours where the result has them. */
import type { PlotPanel, PlotPoint, PlotSeries, Plots } from './plot/plots.ts';
import { bytesLabel } from './plot/scale.ts';
import type { BenchResult, LatencyResult, MigrationPointResult, ThroughputResult } from './result.ts';
import type { Figure } from './statistics.ts';
import type { Operation } from './wire/messages.ts';

const OPERATIONS: readonly Operation[] = ['write', 'read', 'send'];
const MESSAGE_SIZE = { title: 'Message size', unit: 'bytes', scale: 'log' } as const;

export function picturesOf(result: BenchResult): Plots {
  const panels = [
    ...OPERATIONS.map((operation) => throughputPanel(result, operation)),
    ...cpuPanels(result),
    ...OPERATIONS.map((operation) => latencyPanel(result, operation)),
    migrationPanel(result),
  ];
  return {
    title: 'rdma-migrate bench',
    subtitle: subtitleOf(result),
    panels: panels.filter(({ series }) => series.some(({ points }) => points.length > 0)),
  };
}

function subtitleOf({ provider, connection, settings, here, there, began }: BenchResult): string {
  const machine = ({ cpus, model, kernel, node, tool }: BenchResult['here']): string =>
    `${cpus} x ${model}, Linux ${kernel}, Node ${node}, rdma-migrate ${tool}`;
  const ends = settings.local
    ? `both ends on ${machine(here)}`
    : `from ${machine(here)} to ${machine(there)}`;
  const length = settings.seconds === undefined ? bytesLabel(settings.bytes ?? 0) : `${settings.seconds} s`;
  return `provider ${provider.name} (${connection}); ${settings.rounds} rounds of ${length}; ${ends}; ${began}`;
}

function throughputPanel(result: BenchResult, operation: Operation): PlotPanel {
  const points = result.points.filter(
    (point): point is ThroughputResult => point.kind === 'throughput' && point.operation === operation,
  );
  return {
    title: `${operation.toUpperCase()}: throughput by message size`,
    x: MESSAGE_SIZE,
    y: { title: 'Throughput', unit: 'GiB/s' },
    series: [
      ...seriesBySize(points, ({ bytesPerSecond }) => scaled(bytesPerSecond, 2 ** -30)),
      ...peers(result, operation),
    ],
  };
}

/** What a byte costs, of both ends together. */
function cpuPanels(result: BenchResult): PlotPanel[] {
  const points = result.points.filter((point) => point.kind === 'throughput');
  const both = ({ cpuSecondsPerGib }: ThroughputResult): Figure | undefined => cpuSecondsPerGib?.both;
  const series = OPERATIONS.flatMap((operation) => {
    const own = points.filter((point) => point.operation === operation);
    return seriesBySize(own, both).map(({ name, ...rest }) => ({
      name: `${operation.toUpperCase()}${name === '' ? '' : `, ${name}`}`,
      ...rest,
    }));
  });
  return [
    {
      title: 'Processor time of both ends by message size',
      x: MESSAGE_SIZE,
      y: { title: 'CPU time', unit: 's/GiB', scale: 'log' },
      series,
    },
  ];
}

function latencyPanel(result: BenchResult, operation: Operation): PlotPanel {
  const points = result.points.filter(
    (point): point is LatencyResult => point.kind === 'latency' && point.operation === operation,
  );
  const series = (['p50', 'p99', 'p999'] as const).flatMap((name) =>
    seriesBySize(points, ({ microseconds }) => microseconds?.[name]).map((one) => ({
      ...one,
      name: [name === 'p999' ? 'p99.9' : name, one.name].filter((part) => part !== '').join(', '),
    })),
  );
  const [title, y] =
    operation === 'read'
      ? ['READ: time of one at a time', 'Time until it is here']
      : [`${operation.toUpperCase()}: latency of one message at a time`, 'Half a round trip'];
  return {
    title,
    x: MESSAGE_SIZE,
    y: { title: y, unit: 'µs', scale: 'log' },
    series: [...series, ...(operation === 'send' ? peers(result, 'latency') : [])],
  };
}

function migrationPanel(result: BenchResult): PlotPanel {
  const points = result.points.filter((point) => point.kind === 'migration');
  const bars = points.flatMap((point) => pointOf(migrationName(point), point.totalSeconds));
  return {
    kind: 'bars',
    title: 'Whole migrations into fresh memory',
    x: { title: 'Migration', unit: '' },
    y: { title: 'Total time', unit: 's' },
    series: [{ name: 'rdma-migrate', points: bars }, ...peers(result, 'migration')],
  };
}

function migrationName({
  ramBytes,
  zeroPercent,
  dirtyRate,
  pinAll,
  channels,
  crc,
}: MigrationPointResult): string {
  return [
    bytesLabel(ramBytes),
    pinAll ? 'pin-all' : 'dynamic',
    zeroPercent > 0 && `${zeroPercent} % zero`,
    dirtyRate > 0 && `writes ${bytesLabel(dirtyRate)}/s`,
    channels > 0 && `${channels} ch.`,
    crc && 'CRC',
  ]
    .filter((part) => part !== false)
    .join(', ');
}

type Sized = ThroughputResult | LatencyResult;

/** A series for each combination of what is no size, named by what differs. */
function seriesBySize<T extends Sized>(
  points: readonly T[],
  figure: (point: T) => Figure | undefined,
): PlotSeries[] {
  const varied = (['depth', 'queuePairs', 'crc'] as const).filter(
    (name) => new Set(points.map((point) => (point as Partial<ThroughputResult>)[name])).size > 1,
  );
  const series = new Map<string, PlotPoint[]>();
  for (const point of points) {
    const name = varied.map((part) => describe(part, point)).join(', ');
    const list = series.get(name) ?? [];
    list.push(...pointOf(point.messageBytes, figure(point)));
    series.set(name, list);
  }
  const named = [...series].map(([name, list]) => ({ name, points: list }));
  return named.filter(({ points: list }) => list.length > 0);
}

function describe(part: 'depth' | 'queuePairs' | 'crc', point: Sized): string {
  const { depth, queuePairs, crc } = point as ThroughputResult;
  if (part === 'depth') return `depth ${depth}`;
  if (part === 'queuePairs') return `${queuePairs} queue ${queuePairs === 1 ? 'pair' : 'pairs'}`;
  return `CRC ${crc ? 'on' : 'off'}`;
}

function peers(result: BenchResult, panel: string): PlotSeries[] {
  const own = (result.peers ?? []).filter((peer) => peer.panel === panel);
  return own.map(({ name, points }) => ({ name, points, peer: true }));
}

function pointOf(x: number | string, figure: Figure | undefined): PlotPoint[] {
  return figure === undefined ? [] : [{ x, median: figure.median, low: figure.min, high: figure.max }];
}

function scaled(figure: Figure | undefined, by: number): Figure | undefined {
  return figure && { median: figure.median * by, min: figure.min * by, max: figure.max * by };
}
