/** All rounds of all points, in turn, so that what disturbs the machine for a while disturbs every point alike. */
import type { MigrationError } from '../errors.ts';
import { toMigrationError } from '../errors.ts';
import type { ProviderChoice } from '../transport/provider.ts';
import { BenchClient } from './ends/client.ts';
import { cpuSeconds } from './measure/cost.ts';
import { describeMachine } from './measure/machine.ts';
import { type Length, measure, type Sample } from './measure/sample.ts';
import type { Point } from './plan.ts';
import type { BenchResult, PointResult } from './result.ts';
import { figureOf } from './statistics.ts';
import type { Cost } from './wire/messages.ts';

export interface RunOptions {
  readonly uri: string;
  readonly provider: ProviderChoice;
  readonly points: readonly Point[];
  readonly rounds: number;
  readonly length: Length;
  /** Both ends are this machine's. */
  readonly local: boolean;
  readonly signal?: AbortSignal;
}

export interface RunEvents {
  /** Connected; nothing is measured yet. */
  begun?(result: BenchResult): void;
  /** `step` of `steps` begins: that point, in that round from 1 on. */
  step?(step: number, steps: number, point: Point, round: number): void;
  /** A point has one more round. */
  measured?(index: number, result: PointResult): void;
}

export interface Ran {
  /** undefined: the other end was not reached. */
  readonly result: BenchResult | undefined;
  /** Why it ended early. */
  readonly error: MigrationError | undefined;
}

/** What was measured before something failed, or the user stopped it, is the result all the same. Never rejects. */
export async function runBench(options: RunOptions, events: RunEvents = {}): Promise<Ran> {
  let result: BenchResult | undefined;
  try {
    await using client = await BenchClient.connect(options.uri, {
      provider: options.provider,
      ...(options.signal && { signal: options.signal }),
    });
    result = await emptyResult(client, options);
    events.begun?.(result);
    await allRounds(client, options, result, events);
    result.complete = true;
    return { result, error: undefined };
  } catch (thrown) {
    return { result, error: toMigrationError(thrown, 'verbs') };
  }
}

async function emptyResult(client: BenchClient, options: RunOptions): Promise<BenchResult> {
  const { rounds, length, local, points } = options;
  return {
    format: 'rdma-migrate-bench',
    version: 1,
    began: new Date().toISOString(),
    complete: false,
    settings: { rounds, ...length, local },
    provider: { ...client.provider },
    connection: '',
    here: await describeMachine(),
    there: stripped(await client.who()),
    points: points.map((point) => pointResult(point, [])),
  };
}

function stripped({ cpus, model, kernel, node, tool }: BenchResult['there']): BenchResult['there'] {
  return { cpus, model, kernel, node, tool };
}

async function allRounds(
  client: BenchClient,
  { points, rounds, length, signal }: RunOptions,
  result: BenchResult,
  events: RunEvents,
): Promise<void> {
  const samples = points.map((): Sample[] => []);
  for (let round = 1; round <= rounds; round++) {
    for (const [index, point] of points.entries()) {
      events.step?.((round - 1) * points.length + index + 1, rounds * points.length, point, round);
      const sample = await measure(client, point, { length, signal });
      samples[index]?.push(sample);
      result.connection ||= sample.detail ?? '';
      const measured = pointResult(point, samples[index] ?? []);
      result.points[index] = measured;
      events.measured?.(index, measured);
    }
  }
}

/** A point with what its rounds have shown. */
export function pointResult(point: Point, samples: readonly Sample[]): PointResult {
  const of = (value: (sample: Sample) => number) => figureOf(samples.map(value));
  const ends = (value: (cost: Cost, sample: Sample) => number) => ({
    here: of((sample) => value(sample.here, sample)),
    there: of((sample) => value(sample.there, sample)),
  });
  const any = samples.length > 0;
  const common = {
    rounds: samples.length,
    ...(any && {
      cpuSecondsPerGib: {
        ...ends((cost, { bytes }) => (cpuSeconds(cost) * 2 ** 30) / bytes),
        both: of(({ bytes, here, there }) => ((cpuSeconds(here) + cpuSeconds(there)) * 2 ** 30) / bytes),
      },
      loopBusy: ends(({ loopPermille }) => loopPermille / 1000),
    }),
  };
  const bytesPerSecond = of(({ bytes, seconds }) => bytes / seconds);
  switch (point.kind) {
    case 'throughput': {
      const messagesPerSecond = of(({ bytes, seconds }) => bytes / point.messageBytes / seconds);
      return { ...point, ...common, ...(any && { bytesPerSecond, messagesPerSecond }) };
    }
    case 'latency': {
      const taken = samples.filter((sample) => sample.kind === 'latency');
      const at = (name: 'p50' | 'p99' | 'p999') => figureOf(taken.map((sample) => sample[name]));
      const microseconds = { p50: at('p50'), p99: at('p99'), p999: at('p999') };
      const messages = taken.reduce((sum, sample) => sum + sample.messages, 0);
      return { ...point, ...common, messages, ...(any && { microseconds }) };
    }
    case 'migration': {
      const taken = samples.filter((sample) => sample.kind === 'migration');
      return {
        ...point,
        ...common,
        ...(any && {
          totalSeconds: of(({ seconds }) => seconds),
          ramSeconds: figureOf(taken.map(({ ramSeconds }) => ramSeconds)),
          bytesPerSecond,
          downtimeSeconds: figureOf(taken.map(({ downtimeSeconds }) => downtimeSeconds)),
        }),
      };
    }
  }
}
