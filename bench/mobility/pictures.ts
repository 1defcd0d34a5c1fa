/** Pictures of what `npm run bench:mobility` measured. Pure. */
import { type PlotPanel, renderPlots } from '../../lib/bench/plot/index.ts';
import { spreadOf } from '../support/statistics.ts';
import { MODES, type Mode } from './measure.ts';

export interface Blackout {
  readonly queuePairs: number;
  readonly mode: Mode;
  readonly way: 'ahead' | 'in-pause' | 'scratch';
  readonly ms: readonly number[];
  readonly drainMs: readonly number[];
}

const NAMES = {
  ahead: 'peers connect in advance',
  'in-pause': 'in the pause',
  scratch: 'from scratch',
} as const;

export function drawBlackouts(all: readonly Blackout[]): string {
  const panels = (Object.keys(MODES) as Mode[]).map(
    (mode): PlotPanel => ({
      title: `The program: ${mode}. Less is better`,
      x: { title: 'Queue pairs', unit: '', scale: 'log' },
      y: { title: 'Connections stand still', unit: 'ms', scale: 'log' },
      series: (['ahead', 'in-pause', 'scratch'] as const).map((way) => ({
        name: NAMES[way],
        peer: way === 'scratch',
        points: all
          .filter((each) => each.mode === mode && each.way === way)
          .map(({ queuePairs, ms }) => {
            const { least, median, most } = spreadOf(ms);
            return { x: queuePairs, median, low: least, high: most };
          }),
      })),
    }),
  );
  return renderPlots({ title: 'A program moves with its connections', panels });
}
