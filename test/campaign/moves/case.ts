import type { Traffic } from '../../../examples/moving-program/layout.ts';
import type { MoveWay } from '../../../examples/moving-program/vm.ts';
import type { Random } from '../random.ts';

/** Who is killed, or stands still for `stillMs`; or the link between the two programs is cut; or the move is cancelled. */
export const FAULTS = [
  'none',
  'kill-old',
  'kill-new',
  'kill-partner',
  'stop-old',
  'stop-new',
  'stop-partner',
  'cut',
  'cancel',
] as const;
export type Fault = (typeof FAULTS)[number];

/** One move of a program, and what goes wrong with it. */
export interface Case {
  readonly seed: number;
  readonly traffic: Traffic;
  readonly way: MoveWay;
  readonly tracker: 'hash' | 'write-protect';
  readonly drainMs: number;
  readonly fault: Fault;
  /** After the move was asked for, milliseconds. */
  readonly atMs: number;
  readonly stillMs: number;
}

/** Bytes that each direction carries: they last longer than a move. */
const BYTES = 800_000_000;
/** For each one that is under way at a time: with few of those each takes a way to the peer and back. */
const MOST_MESSAGES = 7000;

export function caseOf(seed: number, random: Random): Case {
  const size = random.pick([64, 1024, 4096, 65_536]);
  const queuePairs = random.pick([1, 2, 8]);
  const fault = random.pick(FAULTS);
  const depth = random.pick([2, 16]);
  return {
    seed,
    traffic: {
      verb: random.pick(['send', 'write', 'read'] as const),
      from: random.pick(['program', 'partner', 'both'] as const),
      size,
      depth,
      queuePairs,
      iterations: Math.ceil(Math.min(MOST_MESSAGES * depth, BYTES / size) / queuePairs),
      seconds: 1,
    },
    way: random.chance(0.5) ? 'ahead' : 'in-pause',
    tracker: random.chance(0.5) ? 'hash' : 'write-protect',
    drainMs: random.pick([1, 1000]),
    fault,
    atMs: Math.floor(random.next() ** 2 * 250),
    stillMs: 20 + random.below(600),
  };
}
