/** The result of a benchmark: one JSON document, which later releases of version 1 only add to. docs/bench.md explains it. */
import { z } from 'zod';

const figure = z.object({ median: z.number(), min: z.number(), max: z.number() });
const operation = z.enum(['write', 'read', 'send']);
const count = z.number().int().nonnegative();
const machine = z.object({
  cpus: count,
  model: z.string(),
  kernel: z.string(),
  node: z.string(),
  tool: z.string(),
});
/** Of both ends: `here` is the end that measures. */
const ends = z.object({ here: figure, there: figure });

const common = {
  /** Rounds that were measured so far; 0: none, and the figures are missing. */
  rounds: count,
  crc: z.boolean(),
  /** Processor seconds for each GiB. */
  cpuSecondsPerGib: ends.extend({ both: figure }).optional(),
  /** How much of the time each end's event loop was busy, 0 to 1: near 1, JavaScript was the limit. */
  loopBusy: ends.optional(),
};
const throughput = z.object({
  kind: z.literal('throughput'),
  operation,
  messageBytes: count,
  depth: count,
  queuePairs: count,
  ...common,
  bytesPerSecond: figure.optional(),
  messagesPerSecond: figure.optional(),
});
const latency = z.object({
  kind: z.literal('latency'),
  operation,
  messageBytes: count,
  ...common,
  /** Half a round trip; of a READ the whole of it. Microseconds. */
  microseconds: z.object({ p50: figure, p99: figure, p999: figure }).optional(),
  /** In all rounds. */
  messages: count,
});
const migration = z.object({
  kind: z.literal('migration'),
  ramBytes: count,
  zeroPercent: z.number(),
  dirtyRate: count,
  pinAll: z.boolean(),
  channels: count,
  ...common,
  /** From the connect to the end of the commit. */
  totalSeconds: figure.optional(),
  /** Of it, the RAM's phase. */
  ramSeconds: figure.optional(),
  /** RAM, zero pages included, by the total time. */
  bytesPerSecond: figure.optional(),
  /** How long a guest that runs stood still; 0 for one that stands still anyway. */
  downtimeSeconds: figure.optional(),
});

const peerPoint = z.object({
  x: z.union([z.number(), z.string()]),
  median: z.number(),
  low: z.number(),
  high: z.number(),
});
/** Somebody else's figures, for the pictures: in the unit of the panel. */
const peer = z.object({
  name: z.string(),
  panel: z.enum(['write', 'read', 'send', 'latency', 'migration']),
  points: z.array(peerPoint),
});

export const benchResultSchema = z.object({
  format: z.literal('rdma-migrate-bench'),
  version: z.literal(1),
  /** ISO 8601. */
  began: z.string(),
  /** False: it was cancelled, or failed, before its last round. */
  complete: z.boolean(),
  settings: z.object({
    rounds: count,
    seconds: z.number().optional(),
    bytes: count.optional(),
    /** Both ends were processes of one machine. */
    local: z.boolean(),
  }),
  provider: z.object({ name: z.string(), reason: z.string() }),
  /** A line on the data's connection. */
  connection: z.string(),
  here: machine,
  there: machine,
  points: z.array(z.discriminatedUnion('kind', [throughput, latency, migration])),
  peers: z.array(peer).optional(),
});

export type BenchResult = z.infer<typeof benchResultSchema>;
export type PointResult = BenchResult['points'][number];
export type ThroughputResult = Extract<PointResult, { kind: 'throughput' }>;
export type LatencyResult = Extract<PointResult, { kind: 'latency' }>;
export type MigrationPointResult = Extract<PointResult, { kind: 'migration' }>;
