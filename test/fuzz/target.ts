/** What a fuzzer of ours is: it makes one case from numbers that a seed decides, and judges what came of it. */
import { Random } from '../campaign/random.ts';

/** Counts that something was reached: a counter that stays at 0 shows a target that tests nothing. */
export type Hit = (what: string) => void;

export interface Target {
  readonly name: string;
  /** Completes "feeds ...". */
  readonly feeds: string;
  /** What must have been reached after {@link shortRun} cases. */
  readonly reaches: readonly string[];
  /** A case that takes longer than this, milliseconds, is a finding. Default {@link CASE_MS}. */
  readonly caseMs?: number;
  /** Default {@link SHORT_RUN}. */
  readonly shortRun?: number;
  /** Called once, before the first case. What it gives is closed at the end. */
  open?(): Promise<AsyncDisposable>;
  /** Plays one case. Whatever it throws is a finding. */
  play(random: Random, hit: Hit): void | Promise<void>;
}

/** Far more than any case takes on a busy machine. */
export const CASE_MS = 10_000;

export const SHORT_RUN = 2000;

/** The numbers of one case: neighbours have nothing in common. */
export function caseRandom(seed: number, target: string, index: number): Random {
  let state = 0x811c9dc5;
  for (const part of [seed, index, ...Buffer.from(target)]) {
    for (let rest = part, bytes = 0; bytes < 7; bytes++, rest = Math.floor(rest / 256))
      state = Math.imul(state ^ (rest & 0xff), 0x01000193);
  }
  return new Random(state ^ (state >>> 15));
}
