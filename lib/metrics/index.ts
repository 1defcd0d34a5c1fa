/** `rdma-migrate/metrics`: the migrations of this process as Prometheus metrics. docs/metrics.md has the list. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { EVENT_CHANNEL, type MigrationMessage } from '../migration/diagnostics.ts';
import type { EndEvent } from '../migration/events.ts';
import type { Migration } from '../migration/migration.ts';
import type { MigrationProgress } from '../migration/progress.ts';

type Direction = 'outgoing' | 'incoming';
const DIRECTIONS: readonly Direction[] = ['outgoing', 'incoming'];

/** What only grows, of migrations in one direction. */
interface Totals {
  readonly content: number;
  readonly zero: number;
  readonly control: number;
  readonly rounds: number;
}

const NONE: Totals = { content: 0, zero: 0, control: 0, rounds: 0 };
/** Of a pause that nobody notices up to one that ends connections, seconds. */
const DOWNTIMES = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30];
const DURATIONS = [1, 3, 10, 30, 60, 180, 600, 1800, 3600, 10_800];

/**
 * Counts every migration of this process that begins from here on. What is counted is what each one's own progress says, read when the registry is
 * asked; nothing is done per page, and no label grows with the number of migrations.
 *
 * @example
 * using metrics = new MigrationMetrics(register);
 */
export class MigrationMetrics implements Disposable {
  readonly #running = new Map<Migration, Direction>();
  readonly #finished: Record<Direction, Totals> = { outgoing: NONE, incoming: NONE };
  readonly #ended: Counter;
  readonly #errors: Counter;
  readonly #notices: Counter;
  readonly #duration: Histogram;
  readonly #downtime: Histogram;
  readonly #registry: Registry;
  readonly #names: string[] = [];
  readonly #listener = (message: unknown): void => this.#hear(message as MigrationMessage);

  /** `registry`: of prom-client 15. @throws Error of prom-client: the registry has metrics of these names already */
  constructor(registry: Registry) {
    this.#registry = registry;
    this.#ended = new Counter(this.#named('migrations_total', 'Migrations that have ended.', ['status']));
    this.#errors = new Counter(
      this.#named('errors_total', 'Migrations that failed, by error code and phase.', ['code', 'phase']),
    );
    this.#notices = new Counter(this.#named('notices_total', 'Notices of migrations, by code.', ['code']));
    const seconds = this.#named('duration_seconds', 'From the connection to the end.', ['status']);
    this.#duration = new Histogram({ ...seconds, buckets: DURATIONS });
    const downtime = this.#named(
      'downtime_seconds',
      'How long a guest stood still for a completed migration.',
      [],
    );
    this.#downtime = new Histogram({ ...downtime, buckets: DOWNTIMES });
    this.#defineTotals();
    this.#defineGauges();
    subscribe(EVENT_CHANNEL, this.#listener);
  }

  /** Takes its metrics out of the registry. Idempotent. */
  close(): void {
    unsubscribe(EVENT_CHANNEL, this.#listener);
    for (const name of this.#names.splice(0)) this.#registry.removeSingleMetric(name);
    this.#running.clear();
  }

  /** The same as `close`. */
  [Symbol.dispose](): void {
    this.close();
  }

  #named<L extends string>(name: string, help: string, labels: readonly L[]) {
    const full = `rdma_migrate_${name}`;
    this.#names.push(full);
    return { name: full, help, labelNames: ['direction', ...labels], registers: [this.#registry] };
  }

  #defineTotals(): void {
    const totals = (direction: Direction): Totals => this.#totals(direction);
    new Counter({
      ...this.#named('ram_bytes_total', 'RAM moved: content, zeros, and the stream around them.', ['kind']),
      collect() {
        this.reset();
        for (const direction of DIRECTIONS) {
          const { content, zero, control } = totals(direction);
          for (const [kind, bytes] of Object.entries({ content, zero, control }))
            this.inc({ direction, kind }, bytes);
        }
      },
    });
    new Counter({
      ...this.#named('rounds_total', 'Passes over RAM.', []),
      collect() {
        this.reset();
        for (const direction of DIRECTIONS) this.inc({ direction }, totals(direction).rounds);
      },
    });
  }

  #defineGauges(): void {
    this.#gauge('migrations_active', 'Migrations that run now.', (all) => all.length);
    this.#gauge(
      'ram_size_bytes',
      'RAM of the VMs that move now.',
      sumOf(({ ram }) => ram.total),
    );
    this.#gauge(
      'ram_remaining_bytes',
      'RAM that the running passes have still to move.',
      sumOf(({ ram }) => ram.remaining),
    );
    this.#gauge(
      'ram_dirty_bytes_per_second',
      'What the guests that move write.',
      sumOf(({ ram }) => ram['dirty-bytes-rate']),
    );
    this.#gauge(
      'expected_downtime_seconds',
      'The longest downtime that a guest would have if it stopped now.',
      mostOf(({ live }) => (live?.['expected-downtime'] ?? 0) / 1000),
    );
    this.#gauge(
      'cpu_throttle_ratio',
      'The share of its CPU time that the guest slowed down most is denied.',
      mostOf(({ live }) => (live?.['cpu-throttle-percentage'] ?? 0) / 100),
    );
  }

  #gauge(name: string, help: string, read: (all: readonly MigrationProgress[]) => number): void {
    const now = (direction: Direction): readonly MigrationProgress[] => this.#now(direction);
    new Gauge({
      ...this.#named(name, help, []),
      collect() {
        for (const direction of DIRECTIONS) this.set({ direction }, read(now(direction)));
      },
    });
  }

  #now(wanted: Direction): readonly MigrationProgress[] {
    return [...this.#running].flatMap(([{ current }, direction]) => (direction === wanted ? [current] : []));
  }

  #totals(direction: Direction): Totals {
    return this.#now(direction).map(totalsOf).reduce(plus, this.#finished[direction]);
  }

  #hear({ role, migration, event }: MigrationMessage): void {
    const direction = role === 'source' ? 'outgoing' : 'incoming';
    if (event.type === 'notice') this.#notices.inc({ direction, code: event.code });
    if (event.type === 'end') this.#end(migration as Migration, direction, event);
    else this.#running.set(migration as Migration, direction);
  }

  #end(migration: Migration, direction: Direction, end: EndEvent): void {
    const { current } = migration;
    this.#running.delete(migration);
    this.#finished[direction] = plus(this.#finished[direction], totalsOf(current));
    const { status } = end;
    this.#ended.inc({ direction, status });
    this.#duration.observe({ direction, status }, current['total-time'] / 1000);
    if (end.status === 'failed')
      this.#errors.inc({ direction, code: end.error.code, phase: end.error.phase });
    const downtime = current.live?.downtime;
    if (status === 'completed' && downtime !== undefined)
      this.#downtime.observe({ direction }, downtime / 1000);
  }
}

function totalsOf({ ram }: MigrationProgress): Totals {
  return {
    content: ram['normal-bytes'],
    zero: ram.duplicate * ram['page-size'],
    control: Math.max(0, ram.transferred - ram['normal-bytes']),
    rounds: ram['dirty-sync-count'],
  };
}

const plus = (a: Totals, b: Totals): Totals => ({
  content: a.content + b.content,
  zero: a.zero + b.zero,
  control: a.control + b.control,
  rounds: a.rounds + b.rounds,
});

type Read = (progress: MigrationProgress) => number;

const sumOf = (read: Read) => (all: readonly MigrationProgress[]) =>
  all.reduce((sum, one) => sum + read(one), 0);
const mostOf = (read: Read) => (all: readonly MigrationProgress[]) => Math.max(0, ...all.map(read));
