/** A migration's state as an embedder, an operator and a program see it. */
import { eta, meanRate, percentage, rates, remaining } from './estimate.ts';
import {
  type LiveStatistics,
  MEGABIT_BYTES,
  type MigrationProgress,
  type RamStatistics,
} from './progress.ts';
import type { MigrationState } from './reducer.ts';
import type { MigrationFacts, MigrationResult } from './result.ts';

/** `at`: now, as events count. After the end it makes no difference. */
export function progressOf(state: MigrationState, at: number): MigrationProgress {
  const now = state.ended ?? at;
  const began = state.began ?? now;
  const left = eta(state, now);
  return {
    status: state.status,
    phase: state.phase,
    'total-time': Math.round(now - began),
    'setup-time': Math.round((state.ramBegan ?? now) - began),
    channels: state.channels,
    resumes: state.resumes,
    percentage: percentage(state),
    ...(left === undefined ? {} : { eta: Math.round(left) }),
    ram: ramOf(state, now),
    ...(state.round?.live && { live: liveOf(state) }),
  };
}

/** Once it has been completed. */
export const resultOf = (state: MigrationState, facts: MigrationFacts): MigrationResult => ({
  ...facts,
  ...progressOf(state, state.ended ?? 0),
  status: 'completed',
});

function ramOf(state: MigrationState, at: number): RamStatistics {
  const { moved, pageSize, control, sync } = state;
  const bytesPerSecond = state.ramEnded === undefined ? rates(state, at).content : meanRate(state);
  const dirty = sync?.['dirty-bytes-rate'] ?? 0;
  return {
    transferred: moved.content + control,
    remaining: remaining(state),
    total: state.total,
    duplicate: Math.floor(moved.zero / pageSize),
    skipped: Math.floor(moved.skipped / pageSize),
    normal: Math.floor(moved.content / pageSize),
    'normal-bytes': moved.content,
    mbps: bytesPerSecond / MEGABIT_BYTES,
    'dirty-sync-count': state.round?.round ?? 0,
    'page-size': pageSize,
    'dirty-pages-rate': dirty / pageSize,
    'dirty-bytes-rate': dirty,
  };
}

function liveOf({ sync, downtime, throttle, rounds }: MigrationState): LiveStatistics {
  return {
    'expected-downtime': sync?.['expected-downtime'] ?? 0,
    'downtime-limit': sync?.['downtime-limit'] ?? 0,
    'switchover-bandwidth': sync?.['switchover-bandwidth'] ?? 0,
    ...(downtime && { downtime: downtime.marked - downtime.began, 'downtime-parts': downtime.parts }),
    'cpu-throttle-percentage': throttle,
    ...(sync && { verdict: sync.verdict }),
    rounds,
  };
}
