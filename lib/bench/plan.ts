/** What is measured: every combination of what was asked for. */
import { MOST_BUFFERS, ringOf } from './limits.ts';
import type { Operation } from './wire/messages.ts';

export type Measure = Operation | 'latency' | 'migration';
export const MEASURES: readonly Measure[] = ['write', 'read', 'send', 'latency', 'migration'];
const OPERATIONS: readonly Operation[] = ['write', 'read', 'send'];

export interface ThroughputPoint {
  readonly kind: 'throughput';
  readonly operation: Operation;
  readonly messageBytes: number;
  readonly depth: number;
  readonly queuePairs: number;
  readonly crc: boolean;
}

/** One message at a time on one queue pair. */
export interface LatencyPoint {
  readonly kind: 'latency';
  readonly operation: Operation;
  readonly messageBytes: number;
  readonly crc: boolean;
}

/** A whole migration into fresh memory. */
export interface MigrationPoint {
  readonly kind: 'migration';
  readonly ramBytes: number;
  readonly zeroPercent: number;
  /** Bytes per second that the guest writes; 0: it stands still. */
  readonly dirtyRate: number;
  readonly pinAll: boolean;
  /** 0: the source's default. */
  readonly channels: number;
  readonly crc: boolean;
}

export type Point = ThroughputPoint | LatencyPoint | MigrationPoint;

export interface Wanted {
  readonly measures: readonly Measure[];
  readonly sizes: readonly number[];
  readonly depths: readonly number[];
  readonly queuePairs: readonly number[];
  readonly crc: readonly boolean[];
  readonly ramBytes: readonly number[];
  readonly zeroPercents: readonly number[];
  readonly dirtyRates: readonly number[];
  readonly pinAll: readonly boolean[];
  readonly channels: readonly number[];
}

export const DEFAULTS: Wanted = {
  measures: MEASURES,
  sizes: [4, 16, 64, 256, 1024, 4096].map((kib) => kib * 1024),
  depths: [64],
  queuePairs: [1],
  crc: [false],
  ramBytes: [1 << 30],
  zeroPercents: [0],
  dirtyRates: [0],
  pinAll: [false, true],
  channels: [0],
};

/** In the order in which they are shown: what differs least stands together. */
export function planOf(wanted: Wanted): readonly Point[] {
  const { measures } = wanted;
  const points: Point[] = [];
  for (const operation of OPERATIONS) {
    if (!measures.includes(operation)) continue;
    for (const crc of wanted.crc)
      for (const queuePairs of wanted.queuePairs)
        for (const depth of wanted.depths)
          for (const messageBytes of wanted.sizes)
            points.push({ kind: 'throughput', operation, messageBytes, depth, queuePairs, crc });
  }
  if (measures.includes('latency'))
    for (const operation of OPERATIONS)
      for (const crc of wanted.crc)
        for (const messageBytes of wanted.sizes)
          points.push({ kind: 'latency', operation, messageBytes, crc });
  if (measures.includes('migration')) points.push(...migrations(wanted));
  return points;
}

function migrations(wanted: Wanted): MigrationPoint[] {
  const points: MigrationPoint[] = [];
  for (const ramBytes of wanted.ramBytes)
    for (const zeroPercent of wanted.zeroPercents)
      for (const dirtyRate of wanted.dirtyRates)
        for (const channels of wanted.channels)
          for (const crc of wanted.crc)
            for (const pinAll of wanted.pinAll)
              points.push({ kind: 'migration', ramBytes, zeroPercent, dirtyRate, pinAll, channels, crc });
  return points;
}

/** What is too much for either end, or undefined. */
export function tooMuch(points: readonly Point[]): string | undefined {
  for (const point of points) {
    if (point.kind !== 'throughput') continue;
    const bytes = ringOf(point.messageBytes, point.depth).bytes * point.queuePairs;
    if (bytes > MOST_BUFFERS)
      return `${point.queuePairs} queue pairs with messages of ${point.messageBytes} bytes need ${bytes} bytes of buffers, and ${MOST_BUFFERS} are allowed`;
  }
  return undefined;
}
