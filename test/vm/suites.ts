/** The suites of test:vm. */
import type { InsideSettings } from './interop/inside.ts';

/** In the order in which they run. `without` removes rdma-core, so it is last. */
export const SUITES = ['fabric', 'limits', 'device', 'trust', 'interop', 'without'] as const;
export type Suite = (typeof SUITES)[number];

export interface SuitesSettings {
  readonly device: 'siw' | 'rxe';
  readonly suites: readonly Suite[];
  /** Cases of other devices too. */
  readonly every: boolean;
  readonly interop: InsideSettings;
}

/** How a suite ended. `late`: not in time; `id-stuck`: the kernel keeps it waiting for ever (stuck.ts). Nothing runs after these two. */
export type Outcome = 'passed' | 'failed' | 'late' | 'id-stuck';

const STUCK_AT = 80;

/** Of the suites so far. One that is stuck is said only where all before it have passed: what is run again must not hide a failure. */
export function exitCodeOf(outcomes: readonly Outcome[]): number {
  const first = outcomes.findIndex((outcome) => outcome !== 'passed');
  if (first < 0) return 0;
  return outcomes[first] === 'id-stuck' ? STUCK_AT + first : 1;
}

/** The suites that a new VM has to run, the stuck one first; none unless that is what the exit code says. */
export function suitesToRepeat(exitCode: number, suites: readonly Suite[]): readonly Suite[] {
  return exitCode < STUCK_AT ? [] : suites.slice(exitCode - STUCK_AT);
}

export const FABRIC_BUILD = 'build';
