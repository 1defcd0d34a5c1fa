/** Where a migration stands, as plain data. docs/events.md says in words what total, done and remaining mean at each end. */
import type { Phase } from '../errors.ts';
import type { Verdict } from './live/convergence.ts';
import type { DowntimeParts } from './live/downtime.ts';

/** QMP's MigrationStatus, as far as it is used here. */
export type MigrationStatus = 'setup' | 'active' | 'device' | 'completed' | 'failed' | 'cancelled';

/** Of `mbps`. */
export const MEGABIT_BYTES = 1e6 / 8;

/** QMP's MigrationStats (`query-migrate`, member `ram`). Bytes unless said otherwise. */
export interface RamStatistics {
  /** Bytes of RAM and control data sent or received. */
  readonly transferred: number;
  /** Of the pass that runs, or of the next one where that is known. 0 once all RAM has been moved. */
  readonly remaining: number;
  readonly total: number;
  /** Pages found zero, which travel as ranges. */
  readonly duplicate: number;
  /** Of those, pages that the destination has as zeros anyway and was not told of. */
  readonly skipped: number;
  /** Pages sent with their content. */
  readonly normal: number;
  readonly 'normal-bytes': number;
  /** Megabits of content per second: of the last three seconds while RAM moves, afterwards the mean of all of it. */
  readonly mbps: number;
  /** Passes over RAM. A version 1 source does not tell its destination of them: all of its RAM is one. */
  readonly 'dirty-sync-count': number;
  readonly 'page-size': number;
  /** Pages, and bytes, a second that the guest wrote between the last two times that this was looked at. */
  readonly 'dirty-pages-rate': number;
  readonly 'dirty-bytes-rate': number;
}

/** One pass over a running guest's RAM; the last one is that in which it stood still. Times in milliseconds. */
export interface RoundReport {
  /** Counts from 1, the pass over all RAM. */
  readonly round: number;
  readonly time: number;
  /** Pages that were to be sent when it began. */
  readonly 'dirty-pages': number;
  /** Pages and bytes sent with their content, pages found zero, and of those, pages that needed no word. */
  readonly normal: number;
  readonly 'normal-bytes': number;
  readonly duplicate: number;
  readonly skipped: number;
  /** What was known when it began; absent in the first and the last. */
  readonly 'dirty-pages-rate'?: number;
  readonly 'collect-time'?: number;
  readonly 'expected-downtime'?: number;
  readonly verdict?: Verdict;
  readonly 'cpu-throttle-percentage': number;
}

/** What is told of a guest that runs while it is sent. */
export interface LiveStatistics {
  /** Milliseconds of downtime, if the guest stopped now. 0 before the first round has ended. */
  readonly 'expected-downtime': number;
  /** QMP's: milliseconds that were allowed when the last round ended. 0 before the first has. */
  readonly 'downtime-limit': number;
  /** Bytes per second that it reckons with: of the link, or `availSwitchoverBandwidth`. 0 before the first round has ended. */
  readonly 'switchover-bandwidth': number;
  /** How long the guest stood still, so far; absent while it runs. */
  readonly downtime?: number;
  readonly 'downtime-parts'?: DowntimeParts;
  readonly 'cpu-throttle-percentage': number;
  /** Whether it will come to an end; undefined before the first round has ended. */
  readonly verdict?: Verdict;
  /** The last 256. */
  readonly rounds: readonly RoundReport[];
}

/** What `progress()` yields. Names are those of QMP's MigrationInfo where the meaning is the same. */
export interface MigrationProgress {
  readonly status: MigrationStatus;
  readonly phase: Phase;
  /**
   * Milliseconds from the connection with the peer (at the source: from the beginning of the try to connect that succeeded) to the end, and of it what came before
   * RAM: connecting, negotiation and setup. A destination's wait for a source is in neither.
   */
  readonly 'total-time': number;
  readonly 'setup-time': number;
  /** Queue pairs that carry it. */
  readonly channels: number;
  /** How often a channel has gone on over a new link after its own broke. */
  readonly resumes: number;
  /** How much of RAM needs not be moved any more, 0 to 100; 100 only when all of it has been. */
  readonly percentage: number;
  /**
   * Milliseconds until RAM has been moved, as far as can be told; 0 when the migration is complete. Absent while it cannot be told: before
   * something has been moved, while nothing moves, and where a guest writes faster than that.
   */
  readonly eta?: number;
  readonly ram: RamStatistics;
  /** Absent for a VM that stands still, and at the destination. */
  readonly live?: LiveStatistics;
}
