import { EventEmitter } from 'node:events';
import { MigrationError, type Phase } from '../errors.ts';
import { tell } from './embedder.ts';
import { type MigrationProgress, Statistics } from './statistics.ts';

/** Events of both ends. */
export interface MigrationEvents {
  /** A new phase has begun. */
  phase: [phase: Phase];
  /** Something an operator may want to know; not an error. */
  notice: [message: string];
  /** The migration has ended, one way or the other. */
  end: [];
}

/** What a source and a destination have in common: statistics, events, progress. */
export abstract class Migration extends EventEmitter<MigrationEvents> {
  protected readonly statistics = new Statistics();
  #begun = false;
  #ended = false;
  #warned = false;

  /**
   * Tells every listener. What one throws, or rejects with later, is told once as a warning of the process and changes nothing: neither the
   * migration's outcome nor what the other listeners hear.
   */
  override emit<K>(
    event: K | keyof MigrationEvents,
    ...details: K extends keyof MigrationEvents ? MigrationEvents[K] : never
  ): boolean {
    const listeners = this.rawListeners(event);
    for (const listener of listeners) {
      tell(
        () => Reflect.apply(listener, this, details),
        (error) => this.#warn(String(event), error),
      );
    }
    return listeners.length > 0;
  }

  #warn(event: string, error: unknown): void {
    if (this.#warned) return;
    this.#warned = true;
    const why = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const message = `a listener to '${event}' of a migration failed, which the migration takes no notice of: ${why}`;
    process.emitWarning(message, { code: 'RDMA_MIGRATE_LISTENER' });
  }

  protected enter(phase: Phase): void {
    this.statistics.phase = phase;
    this.emit('phase', phase);
  }

  /** Once. @throws MigrationError INVALID_ARGUMENT: it has begun before */
  protected begin(otherwise: string): void {
    if (this.#begun) throw new MigrationError('INVALID_ARGUMENT', 'configure', otherwise);
    this.#begun = true;
  }

  protected end(): void {
    if (this.#ended) return;
    this.#ended = true;
    this.emit('end');
  }

  /** It was closed: if it has not begun it never will, and who follows it hears of that. */
  protected abandon(): void {
    if (this.#begun || this.#ended) return;
    this.statistics.status = 'cancelled';
    this.end();
  }

  /** Where the migration stands now. */
  get current(): MigrationProgress {
    return this.statistics.snapshot();
  }

  /**
   * Yields where the migration stands, at every change of phase and every `intervalMs` milliseconds, until it has ended or was closed; the
   * last one yielded is final. Before it begins this keeps no process alive that has nothing else to do.
   */
  async *progress(intervalMs = 500): AsyncGenerator<MigrationProgress, void, undefined> {
    while (!this.#ended) {
      yield this.current;
      await this.#nextChange(intervalMs);
    }
    yield this.current;
  }

  async #nextChange(intervalMs: number): Promise<void> {
    if (this.#ended) return;
    await new Promise<void>((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.off('phase', finish);
        this.off('end', finish);
        resolve();
      };
      const timer = setTimeout(finish, intervalMs);
      if (!this.#begun) timer.unref();
      this.on('phase', finish);
      this.on('end', finish);
    });
  }
}
