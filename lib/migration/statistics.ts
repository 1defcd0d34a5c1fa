import type { Phase } from '../errors.ts';

/** QMP's MigrationStatus, as far as a stop-and-copy migration uses it. */
export type MigrationStatus = 'setup' | 'active' | 'device' | 'completed' | 'failed' | 'cancelled';

/** QMP's MigrationStats (`query-migrate`, member `ram`). Bytes unless said otherwise. */
export interface RamStatistics {
  /** Bytes of RAM and control data sent or received. */
  readonly transferred: number;
  readonly remaining: number;
  readonly total: number;
  /** Pages found zero, which travel as ranges. */
  readonly duplicate: number;
  /** Pages sent with their content. */
  readonly normal: number;
  readonly 'normal-bytes': number;
  /** Megabits per second since the RAM phase began. */
  readonly mbps: number;
  /** Passes over RAM. */
  readonly 'dirty-sync-count': number;
  readonly 'page-size': number;
}

/** What `progress()` yields. Names are those of QMP's MigrationInfo where the meaning is the same. */
export interface MigrationProgress {
  readonly status: MigrationStatus;
  readonly phase: Phase;
  /** Milliseconds since the start, and of connection and negotiation. */
  readonly 'total-time': number;
  readonly 'setup-time': number;
  readonly ram: RamStatistics;
}

/** Counts while a migration runs. One writer; `snapshot` may be called at any time. */
export class Statistics {
  status: MigrationStatus = 'setup';
  phase: Phase = 'connect';
  total = 0n;
  pageSize = 4096;
  passes = 0;
  zeroBytes = 0n;
  /** Bytes of pages with content, done. Replaced by a live counter while RAM moves. */
  normalBytes: () => bigint = () => 0n;
  controlBytes = 0n;

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
      ram: {
        transferred: Number(normal + this.controlBytes),
        remaining: this.#remaining(done),
        total: Number(this.total),
        duplicate: Number(this.zeroBytes / BigInt(this.pageSize)),
        normal: Number(normal / BigInt(this.pageSize)),
        'normal-bytes': Number(normal),
        mbps: seconds > 0 ? (Number(normal) * 8) / seconds / 1e6 : 0,
        'dirty-sync-count': this.passes,
        'page-size': this.pageSize,
      },
    };
  }

  #remaining(done: bigint): number {
    if (this.#ramEnded !== undefined) return 0;
    return done < this.total ? Number(this.total - done) : 0;
  }
}
