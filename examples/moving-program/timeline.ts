/** What the partner has seen: bytes in each 5 ms, and where the moves were. */
import { type PlotPoint, renderPlots } from '../../lib/bench/plot/index.ts';
import type { Journey } from './journey.ts';
import type { Options } from './options.ts';

export interface Point {
  /** Milliseconds from the first sample on. */
  readonly ms: number;
  readonly bytesPerSecond: number;
}

export function pointsOf({ samples }: Journey): Point[] {
  const began = samples[0]?.[0] ?? 0;
  return samples.slice(1).map(([at, bytes], index) => {
    const [before, had] = samples[index] as [number, number];
    return { ms: at - began, bytesPerSecond: at > before ? ((bytes - had) * 1000) / (at - before) : 0 };
  });
}

/** The longest time without a byte, milliseconds. */
export function longestGap({ samples }: Journey): number {
  let longest = 0;
  let since: [number, number] | undefined;
  for (const [at, bytes] of samples) {
    if (since === undefined || bytes !== since[1]) since = [at, bytes];
    longest = Math.max(longest, at - since[0]);
  }
  return longest;
}

export function draw(journey: Journey, { traffic }: Options): string {
  const { verb, size, queuePairs, depth, from } = traffic;
  const points = pointsOf(journey);
  return renderPlots({
    title: `A program moves ${journey.moves.length} times`,
    subtitle: `${queuePairs} queue pairs, ${verb} of ${size} bytes from ${from}, ${depth} under way; seen by its partner, each 5 ms`,
    panels: [
      {
        title: 'Rate: more is better',
        x: { title: 'Time', unit: 'ms' },
        y: { title: 'Rate', unit: 'MB/s' },
        series: [
          {
            name: 'partner',
            points: points.map(({ ms, bytesPerSecond }) => at(ms, bytesPerSecond / 1e6)),
          },
        ],
      },
    ],
  });
}

const at = (x: number, value: number): PlotPoint => ({ x, median: value, low: value, high: value });
