/** One round of one point. */
import type { RecordableHistogram } from 'node:perf_hooks';
import { MigrationSource } from '../../migration/source/source.ts';
import { within } from '../../transport/wait.ts';
import type { BenchClient, Opened } from '../ends/client.ts';
import type { LatencyPoint, MigrationPoint, Point, ThroughputPoint } from '../plan.ts';
import type { Cost, Shape } from '../wire/messages.ts';
import { BenchVm } from './bench-vm.ts';
import { CostMeter } from './cost.ts';
import { Lane, laneQueues, type Over } from './lane.ts';
import { LATENCY_QUEUES, PingPong } from './latency.ts';

/** How long a round is: so many seconds, or so many bytes. Migrations are as long as they are. */
export type Length = { readonly seconds: number } | { readonly bytes: number };

export interface SampleLimits {
  readonly length: Length;
  readonly signal?: AbortSignal | undefined;
}

interface Measured {
  readonly seconds: number;
  /** Payload, or RAM. */
  readonly bytes: number;
  readonly here: Cost;
  readonly there: Cost;
  readonly detail?: string;
}
export type Sample =
  | ({ readonly kind: 'throughput'; readonly messages: number } & Measured)
  | ({
      readonly kind: 'latency';
      readonly messages: number;
      /** Microseconds. */
      readonly p50: number;
      readonly p99: number;
      readonly p999: number;
    } & Measured)
  | ({
      readonly kind: 'migration';
      readonly ramSeconds: number;
      readonly downtimeSeconds: number;
    } & Measured);

const WARM_UP_SECONDS = 0.05;
/** What is under way at the end of a round has so long to come. */
const ROUND_ENDS_MS = 60_000;
/** The longest that a round of bytes, or a migration, may take. */
const MOST_MS = 1_800_000;
/** A guest that writes too fast is stopped after so long. */
const LIVE_LIMIT_MS = 30_000;

export function measure(client: BenchClient, point: Point, limits: SampleLimits): Promise<Sample> {
  switch (point.kind) {
    case 'throughput':
      return measureThroughput(client, point, limits);
    case 'latency':
      return measureLatency(client, point, limits);
    case 'migration':
      return measureMigration(client, point, limits);
  }
}

interface Run {
  run(over: Over): Promise<unknown>;
}

/** Warms up, then measures, at both ends. */
async function timed<T extends Run>(
  client: BenchClient,
  { lanes, detail }: Opened<T>,
  { length, signal }: SampleLimits,
  messageBytes: number,
): Promise<{
  results: Awaited<ReturnType<T['run']>>[];
  detail: string;
  seconds: number;
  here: Cost;
  there: Cost;
}> {
  const mostMs = 'seconds' in length ? Math.ceil(length.seconds * 1000) : MOST_MS;
  const waiting = {
    phase: 'verbs',
    timeoutMs: mostMs + ROUND_ENDS_MS,
    signal,
    what: 'the end of a round',
  } as const;
  const together = (over: () => Over) => within(Promise.all(lanes.map((lane) => lane.run(over()))), waiting);
  await together(() => deadline(WARM_UP_SECONDS));
  await client.ask({ type: 'begin', mostMs }, 'begun');
  const meter = new CostMeter();
  const began = performance.now();
  const results = await together(() =>
    'seconds' in length ? deadline(length.seconds) : counted(length.bytes / lanes.length / messageBytes),
  );
  const seconds = (performance.now() - began) / 1000;
  const here = meter.read();
  const there = await client.ask({ type: 'finish' }, 'finished');
  return { results: results as Awaited<ReturnType<T['run']>>[], detail, seconds, here, there };
}

function deadline(seconds: number): Over {
  const end = performance.now() + seconds * 1000;
  return () => performance.now() >= end;
}

function counted(most: number): Over {
  return (messages) => messages >= most;
}

async function measureThroughput(
  client: BenchClient,
  point: ThroughputPoint,
  limits: SampleLimits,
): Promise<Sample> {
  const shape = { ...point, mode: 'throughput' } as const;
  const { results, detail, ...taken } = await client.opened(
    shape,
    laneQueues(shape),
    (queuePair, buffers, index, peer) => new Lane(queuePair, buffers, shape, index, peer),
    (opened) => timed(client, opened, limits, point.messageBytes),
  );
  const messages = results.reduce((sum, count) => sum + count, 0);
  return {
    kind: 'throughput',
    messages,
    bytes: messages * point.messageBytes,
    detail,
    ...taken,
  };
}

async function measureLatency(
  client: BenchClient,
  { operation, messageBytes, crc }: LatencyPoint,
  limits: SampleLimits,
): Promise<Sample> {
  const shape: Shape & { crc: boolean } = {
    ...{ operation, messageBytes, crc, mode: 'latency' },
    ...{ depth: 1, queuePairs: 1 },
  };
  const { results, detail, ...taken } = await client.opened(
    shape,
    LATENCY_QUEUES,
    (queuePair, buffers, index, peer) => new PingPong(queuePair, buffers, shape, index, peer),
    (opened) => timed(client, opened, limits, messageBytes),
  );
  const [histogram] = results as [RecordableHistogram];
  // A READ has no way back: its own completion is all of it.
  const share = operation === 'read' ? 1 : 2;
  const at = (percentile: number): number => histogram.percentile(percentile) / share / 1000;
  const messages = histogram.count;
  return {
    kind: 'latency',
    messages,
    bytes: messages * messageBytes,
    ...{ p50: at(50), p99: at(99), p999: at(99.9) },
    detail,
    ...taken,
  };
}

async function measureMigration(
  client: BenchClient,
  point: MigrationPoint,
  { signal }: SampleLimits,
): Promise<Sample> {
  const { ramBytes, crc, channels, pinAll } = point;
  await using bench = await BenchVm.make(point, { signal, onPart: () => client.stayPresent() });
  const asked = { type: 'migrate', ramBytes, crc, channels, mostMs: MOST_MS } as const;
  const { port } = await client.ask(asked, 'listening');
  const source = new MigrationSource(bench.vm, client.uriOf(port), {
    ...{ provider: client.provider.name, pinAll, crc, commit: 'require', totalTimeoutMs: MOST_MS },
    ...(channels > 0 && { channels }),
    ...(bench.vm.guest && { live: { timeLimitMs: LIVE_LIMIT_MS, onTimeLimit: 'stop-and-copy' } }),
  });
  const at = new Map<string, number>();
  source.on('phase', (phase) => at.set(phase, performance.now()));
  bench.start();
  const meter = new CostMeter();
  const began = performance.now();
  const result = await source.migrate(signal ? { signal } : {});
  const seconds = (performance.now() - began) / 1000;
  const here = meter.read();
  const there = await client.ask({ type: 'finish' }, 'finished');
  const ramSeconds = ((at.get('device-state') ?? Number.NaN) - (at.get('ram') ?? Number.NaN)) / 1000;
  return {
    kind: 'migration',
    bytes: ramBytes,
    ramSeconds: Number.isFinite(ramSeconds) ? ramSeconds : seconds,
    downtimeSeconds: bench.vm.guest ? (result.live?.downtime ?? 0) / 1000 : 0,
    detail: result.connection,
    ...{ seconds, here, there },
  };
}
