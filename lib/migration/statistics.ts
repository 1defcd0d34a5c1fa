import type { Phase } from '../errors.ts';
import type { Decision, Verdict } from './live/convergence.ts';
import { Downtime, type DowntimeParts } from './live/downtime.ts';

/** QMP's MigrationStatus, as far as it is used here. */
export type MigrationStatus = 'setup' | 'active' | 'device' | 'completed' | 'failed' | 'cancelled';

/** QMP's MigrationStats (`query-migrate`, member `ram`). Bytes unless said otherwise. */
export interface RamStatistics {
  /** Bytes of RAM and control data sent or received. */
  readonly transferred: number;
  readonly remaining: number;
  readonly total: number;
  /** Pages found zero, which travel as ranges. */
  readonly duplicate: number;
  /** Of those, pages that the destination has as zeros anyway and was not told of. */
  readonly skipped: number;
  /** Pages sent with their content. */
  readonly normal: number;
  readonly 'normal-bytes': number;
  /** Megabits per second since the RAM phase began. */
  readonly mbps: number;
  /** Passes over RAM. */
  readonly 'dirty-sync-count': number;
  readonly 'page-size': number;
  /** Pages a second that the guest wrote during the last round. */
  readonly 'dirty-pages-rate': number;
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
  /** Milliseconds since the start, and of connection and negotiation. */
  readonly 'total-time': number;
  readonly 'setup-time': number;
  /** Queue pairs that carry it. */
  readonly channels: number;
  readonly ram: RamStatistics;
  /** Absent for a VM that stands still. */
  readonly live?: LiveStatistics;
}

const MAX_ROUNDS = 256;

interface OpenRound {
  readonly began: number;
  readonly pendingBytes: number;
  readonly normalBytes: bigint;
  readonly zeroBytes: bigint;
  readonly skippedBytes: bigint;
}

/** Counts while a migration runs. One writer; `snapshot` may be called at any time. */
export class Statistics {
  status: MigrationStatus = 'setup';
  phase: Phase = 'connect';
  total = 0n;
  pageSize = 4096;
  passes = 0;
  channels = 1;
  zeroBytes = 0n;
  /** Of those, not told to a destination that has them anyway. */
  skippedBytes = 0n;
  /** Bytes of pages with content, done. Replaced by a live counter while RAM moves. */
  normalBytes: () => bigint = () => 0n;
  controlBytes = 0n;
  /** Percent of its CPU time that the guest is denied. */
  throttle = 0;
  readonly downtime = new Downtime();

  readonly #rounds: RoundReport[] = [];
  #round: OpenRound | undefined;
  #decision: { readonly decision: Decision; readonly collectMs: number } | undefined;
  readonly #started = performance.now();
  #setupMs: number | undefined;
  #ramStarted: number | undefined;
  #ramEnded: number | undefined;

  ramBegins(): void {
    this.#ramStarted ??= performance.now();
    this.#setupMs ??= this.#ramStarted - this.#started;
    this.status = 'active';
  }

  ramEnds(): void {
    this.#ramEnded = performance.now();
    this.status = 'device';
  }

  /** A pass over a running guest's RAM begins; so many bytes are to be sent. */
  roundBegins(pendingBytes: number): void {
    this.#round = {
      began: performance.now(),
      pendingBytes,
      normalBytes: this.normalBytes(),
      zeroBytes: this.zeroBytes,
      skippedBytes: this.skippedBytes,
    };
  }

  roundEnds(): void {
    const round = this.#round;
    if (round === undefined) return;
    const page = BigInt(this.pageSize);
    const bytes = this.normalBytes() - round.normalBytes;
    this.#rounds.push({
      round: this.passes,
      time: performance.now() - round.began,
      'dirty-pages': round.pendingBytes / this.pageSize,
      normal: Number(bytes / page),
      'normal-bytes': Number(bytes),
      duplicate: Number((this.zeroBytes - round.zeroBytes) / page),
      skipped: Number((this.skippedBytes - round.skippedBytes) / page),
      ...this.#known(),
      'cpu-throttle-percentage': this.throttle,
    });
    if (this.#rounds.length > MAX_ROUNDS) this.#rounds.shift();
  }

  /** The guest's writes have been collected, and it was decided whether to go on. */
  decided(decision: Decision, collectMs: number): void {
    this.#decision = { decision, collectMs };
  }

  #known(): Partial<RoundReport> {
    if (this.#decision === undefined || this.downtime.total !== undefined) return {};
    const { decision, collectMs } = this.#decision;
    return {
      'dirty-pages-rate': decision.dirtyRate / this.pageSize,
      'collect-time': collectMs,
      'expected-downtime': decision.expectedDowntimeMs,
      verdict: decision.verdict,
    };
  }

  snapshot(): MigrationProgress {
    const now = performance.now();
    const normal = this.normalBytes();
    const done = normal + this.zeroBytes;
    const seconds = ((this.#ramEnded ?? now) - (this.#ramStarted ?? now)) / 1000;
    return {
      status: this.status,
      phase: this.phase,
      'total-time': Math.round(now - this.#started),
      'setup-time': Math.round(this.#setupMs ?? now - this.#started),
      channels: this.channels,
      ram: {
        transferred: Number(normal + this.controlBytes),
        remaining: this.#remaining(done),
        total: Number(this.total),
        duplicate: Number(this.zeroBytes / BigInt(this.pageSize)),
        skipped: Number(this.skippedBytes / BigInt(this.pageSize)),
        normal: Number(normal / BigInt(this.pageSize)),
        'normal-bytes': Number(normal),
        mbps: seconds > 0 ? (Number(normal) * 8) / seconds / 1e6 : 0,
        'dirty-sync-count': this.passes,
        'page-size': this.pageSize,
        'dirty-pages-rate': (this.#decision?.decision.dirtyRate ?? 0) / this.pageSize,
      },
      ...(this.#round === undefined ? {} : { live: this.#live() }),
    };
  }

  #live(): LiveStatistics {
    const { decision } = this.#decision ?? {};
    const downtime = this.downtime.total;
    return {
      'expected-downtime': decision?.expectedDowntimeMs ?? 0,
      'switchover-bandwidth': decision?.bandwidth ?? 0,
      ...(downtime === undefined ? {} : { downtime, 'downtime-parts': this.downtime.parts }),
      'cpu-throttle-percentage': this.throttle,
      ...(decision === undefined ? {} : { verdict: decision.verdict }),
      rounds: [...this.#rounds],
    };
  }

  #remaining(done: bigint): number {
    if (this.#ramEnded !== undefined) return 0;
    if (this.#round !== undefined) return this.#remainingOf(this.#round, done);
    return done < this.total ? Number(this.total - done) : 0;
  }

  #remainingOf(round: OpenRound, done: bigint): number {
    const sent = Number(done - round.normalBytes - round.zeroBytes);
    return Math.max(0, round.pendingBytes - sent);
  }
}
