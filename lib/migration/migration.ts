import { EventEmitter } from 'node:events';
import { MigrationError, type Phase } from '../errors.ts';
import { RamMap } from '../ram/ram-map.ts';
import { publish } from './diagnostics.ts';
import { tell } from './embedder.ts';
import { EventQueue } from './event-queue.ts';
import type { EndEvent, MigrationEvent, NoticeEvent } from './events.ts';
import { type Ending, Journal } from './journal.ts';
import { MigrationLog, type MigrationLogger, type MigrationRole } from './logger.ts';
import type { MigrationProgress } from './progress.ts';
import type { MigrationResult } from './result.ts';

/** Events of both ends. docs/events.md */
export interface MigrationEvents {
  /** Everything that happens, as it happens. */
  event: [event: MigrationEvent];
  /** A new phase has begun. */
  phase: [phase: Phase];
  /** Something an operator may want to know; not an error. */
  notice: [message: string, notice: NoticeEvent];
  /** The migration has ended, one way or the other. */
  end: [end: EndEvent];
}

/** What a source and a destination have in common: whoever wants to know how it goes subscribes here. */
export abstract class Migration extends EventEmitter<MigrationEvents> {
  protected readonly journal: Journal;
  /** Which end this is. */
  readonly role: MigrationRole;
  readonly #log: MigrationLog | undefined;
  readonly #queues = new Set<EventQueue>();
  #map: RamMap | undefined;
  #begun = false;
  #warned = false;

  constructor(role: MigrationRole, phase: Phase, logger: MigrationLogger | undefined) {
    super();
    this.role = role;
    this.#log = logger && new MigrationLog(logger, role);
    this.journal = new Journal(phase, (event) => this.#publish(event));
  }

  /** To every subscriber, none of which can change what becomes of the migration, or what the others hear. */
  #publish(event: MigrationEvent): void {
    publish({ role: this.role, migration: this, event });
    if (this.#log) this.#attempt('the logger', () => this.#log?.write(event));
    for (const queue of this.#queues) queue.push(event);
    this.emit('event', event);
    if (event.type === 'phase') this.emit('phase', event.phase);
    if (event.type === 'notice') this.emit('notice', event.message, event);
    if (event.type === 'end') this.#lastWord(event);
  }

  #lastWord(event: EndEvent): void {
    for (const queue of this.#queues) queue.close();
    this.#queues.clear();
    this.emit('end', event);
  }

  /** Tells every listener. What one throws, or rejects with later, is told once, as a notice and a warning of the process, and changes nothing. */
  override emit<K>(
    event: K | keyof MigrationEvents,
    ...details: K extends keyof MigrationEvents ? MigrationEvents[K] : never
  ): boolean {
    const listeners = this.rawListeners(event);
    for (const listener of listeners)
      this.#attempt(`a listener to '${String(event)}'`, () => Reflect.apply(listener, this, details));
    return listeners.length > 0;
  }

  #attempt(who: string, work: () => unknown): void {
    tell(work, (error) => this.#failed(who, error));
  }

  #failed(who: string, error: unknown): void {
    if (this.#warned) return;
    this.#warned = true;
    const why = error instanceof Error ? error : new Error(String(error));
    const message = `${who} of a migration failed, which the migration takes no notice of: `;
    process.emitWarning(message + (why.stack ?? why.message), { code: 'RDMA_MIGRATE_LISTENER' });
    this.journal.notice('SUBSCRIBER_FAILED', message + why.message, { subscriber: who });
  }

  /** Once. @throws MigrationError INVALID_ARGUMENT: it has begun before */
  protected begin(otherwise: string): void {
    if (this.#begun) throw new MigrationError('INVALID_ARGUMENT', 'configure', otherwise);
    this.#begun = true;
    this.journal.begin();
  }

  /** The last word. @throws MigrationError the one that it ends with */
  protected end(ending: Ending): MigrationResult {
    const result = this.journal.end(ending);
    if ('error' in ending) throw ending.error;
    return result as MigrationResult;
  }

  /** It was closed: if it has not begun it never will, and who follows it hears of that. */
  protected abandon(): void {
    if (this.#begun) return;
    const error = new MigrationError('CANCELLED', this.journal.phase, 'it was closed before it began');
    this.journal.end({ error, cancelled: true });
  }

  /** Where the migration stands now. */
  get current(): MigrationProgress {
    return this.journal.progress;
  }

  /**
   * A picture of where RAM stands, to be looked at whenever somebody wants to. What it takes is noted from the migration's beginning on, one bit for
   * each page: asked for later it stays empty.
   */
  mapRam(): RamMap {
    this.#map ??= new RamMap();
    return this.#map;
  }

  /** Present: somebody looks. */
  protected get map(): RamMap | undefined {
    return this.#map;
  }

  /**
   * Every event from here on, up to the end; see docs/events.md. A reader who is slow holds up nothing: of what waits for it, samples of counters
   * are left out first, then rounds and notices, and nothing else.
   */
  events(): AsyncGenerator<MigrationEvent, void, undefined> {
    const queue = new EventQueue();
    if (this.journal.hasEnded) queue.close();
    else this.#queues.add(queue);
    return this.#drain(queue);
  }

  async *#drain(queue: EventQueue): AsyncGenerator<MigrationEvent, void, undefined> {
    try {
      yield* queue.drain();
    } finally {
      this.#queues.delete(queue);
    }
  }

  /**
   * Yields where the migration stands, at every change of phase and every `intervalMs` milliseconds, until it has ended or was closed; the
   * last one yielded is final. Before it begins this keeps no process alive that has nothing else to do.
   */
  async *progress(intervalMs = 500): AsyncGenerator<MigrationProgress, void, undefined> {
    while (!this.journal.hasEnded) {
      yield this.current;
      await this.#nextChange(intervalMs);
    }
    yield this.current;
  }

  async #nextChange(intervalMs: number): Promise<void> {
    if (this.journal.hasEnded) return;
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
