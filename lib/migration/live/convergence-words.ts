/** What is told of a guest that cannot be stopped within its limit. */
import { MigrationError } from '../../errors.ts';
import type { LiveParameters } from '../options.ts';
import type { Decision } from './convergence.ts';

/** However little it writes. */
export function fixedCostsNotice(
  { fixedMs }: Decision,
  limits: { readonly downtimeLimitMs: number; readonly switchoverMs: number },
  collectMs: number,
): string {
  return (
    `the guest cannot be stopped for only ${limits.downtimeLimitMs} ms, however little it writes: ${describeMs(fixedMs)} go to the VMM's ` +
    `switch-over (${describeMs(limits.switchoverMs)}), to finding what was written last (${describeMs(collectMs)}) and to messages. Allow more ` +
    'downtime (downtimeLimitMs), take a cheaper dirty tracker, or have it stopped all the same (stopAndCopy)'
  );
}

/** `decision`: the last one; undefined in the first pass. `sentRate`: bytes per second that the last round has moved. */
export function notConverged(
  { timeLimitMs, downtimeLimitMs }: LiveParameters,
  decision: Decision | undefined,
  sentRate: number,
): MigrationError {
  const { expectedDowntimeMs, dirtyRate, bandwidth } = decision ?? {
    expectedDowntimeMs: Number.POSITIVE_INFINITY,
    dirtyRate: 0,
    bandwidth: 0,
  };
  const why = decision
    ? `(${describeMs(expectedDowntimeMs)} would be needed): it writes ${mib(dirtyRate)} MiB/s, the last round has moved ${mib(sentRate)} MiB/s, ` +
      `and ${mib(bandwidth)} MiB/s are reckoned with once it stands`
    : 'and all of its RAM is in its first pass still';
  const details = {
    ...{ timeLimitMs, downtimeLimitMs, expectedDowntimeMs },
    ...{ dirtyRate: Math.round(dirtyRate), sentRate: Math.round(sentRate), bandwidth: Math.round(bandwidth) },
  };
  return new MigrationError(
    'NOT_CONVERGED',
    'ram',
    `after ${timeLimitMs / 1000} s the guest cannot be stopped for only ${downtimeLimitMs} ms ${why}. It runs on here. Allow more downtime or ` +
      'time, let it be throttled (autoConverge), or stop it at the limit (onTimeLimit stop-and-copy)',
    { details },
  );
}

const mib = (bytes: number): string => (bytes / 2 ** 20).toFixed(1);
const describeMs = (ms: number): string =>
  Number.isFinite(ms) ? `${Math.ceil(ms)} ms` : 'more than can be told';
