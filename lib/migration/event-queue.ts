import type { MigrationEvent, MigrationEventType } from './events.ts';

/** Samples of counters: a later one says all that an earlier one did. */
const SAMPLES: ReadonlySet<MigrationEventType> = new Set<MigrationEventType>(['bytes', 'zero', 'pin']);
/** There are few of these in any migration, and none may be missed. */
const KEPT: ReadonlySet<MigrationEventType> = new Set<MigrationEventType>([
  'phase',
  'link',
  'downtime',
  'throttle',
  'end',
]);

/** Events that wait for a reader who is slow. */
export const MOST_QUEUED = 256;

/**
 * Events on their way to an iterator, which may take its time. When {@link MOST_QUEUED} wait, the oldest sample gives way that a later one says
 * as much as; where there is none, the oldest round or notice. Phases, links, downtimes, throttles and the end stay.
 */
export class EventQueue {
  readonly #events: MigrationEvent[] = [];
  #wake: (() => void) | undefined;
  #closed = false;

  get length(): number {
    return this.#events.length;
  }

  push(event: MigrationEvent): void {
    if (this.#closed) return;
    if (this.#events.length >= MOST_QUEUED) this.#makeRoom(event);
    this.#events.push(event);
    this.#wake?.();
  }

  /** Nothing comes after what has come. */
  close(): void {
    this.#closed = true;
    this.#wake?.();
  }

  async *drain(): AsyncGenerator<MigrationEvent, void, undefined> {
    for (;;) {
      const event = this.#events.shift();
      if (event !== undefined) yield event;
      else if (this.#closed) return;
      else await this.#more();
    }
  }

  #more(): Promise<void> {
    return new Promise((resolve) => {
      this.#wake = () => {
        this.#wake = undefined;
        resolve();
      };
    });
  }

  #makeRoom(coming: MigrationEvent): void {
    const newest = new Map(this.#events.map(({ type }, at) => [type, at]));
    newest.delete(coming.type);
    const older = ({ type }: MigrationEvent, at: number): boolean =>
      SAMPLES.has(type) && newest.get(type) !== at;
    const sample = this.#events.findIndex(older);
    const at =
      sample >= 0 ? sample : this.#events.findIndex(({ type }) => !KEPT.has(type) && !SAMPLES.has(type));
    if (at >= 0) this.#events.splice(at, 1);
  }
}
