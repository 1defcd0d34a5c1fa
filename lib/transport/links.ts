import { type MigrationError, type Phase, toMigrationError } from '../errors.ts';
import type { NativeConnection } from '../native/transport.ts';

/** Of a connection that outlives its carriers: a channel's link has broken, and what is on it waits; or it goes on over another one. */
export interface LinkChange {
  /** From 1; the first one carries the messages. */
  readonly channel: number;
  /** Why it broke. Absent: it goes on. */
  readonly lost?: MigrationError;
  /** Where it goes on: how long it was lost, milliseconds. */
  readonly lostMs?: number;
}

/** Which links of a connection are lost, and for how long any was: time that no peer can be blamed for. */
export class Links {
  readonly #lost = new Map<number, number>();
  readonly #watchers = new Set<(change: LinkChange) => void>();
  /** Milliseconds in which some were lost, but for the time that runs now. */
  #past = 0;
  #since: number | undefined;
  readonly #phase: Phase;

  /** `phase`: labels why one was lost. */
  constructor(native: Pick<NativeConnection, 'linkChange'>, phase: Phase) {
    this.#phase = phase;
    void this.#follow(native);
  }

  /** Milliseconds so far in which at least one link was lost. */
  get lostMs(): number {
    return this.#past + (this.#since === undefined ? 0 : performance.now() - this.#since);
  }

  /** From here on, until the function that it gives is called. */
  watch(watcher: (change: LinkChange) => void): () => void {
    this.#watchers.add(watcher);
    return () => void this.#watchers.delete(watcher);
  }

  async #follow(native: Pick<NativeConnection, 'linkChange'>): Promise<void> {
    for (let change = await native.linkChange(); change; change = await native.linkChange()) {
      const { channel, lost } = change;
      this.#tell(lost ? this.#lose(channel, lost) : this.#restore(channel));
    }
    this.#stop(performance.now());
  }

  #lose(channel: number, error: Error): LinkChange {
    const now = performance.now();
    this.#lost.set(channel, now);
    this.#since ??= now;
    return { channel, lost: toMigrationError(error, this.#phase) };
  }

  #restore(channel: number): LinkChange {
    const now = performance.now();
    const lostMs = now - (this.#lost.get(channel) ?? now);
    this.#lost.delete(channel);
    if (this.#lost.size === 0) this.#stop(now);
    return { channel, lostMs };
  }

  #stop(now: number): void {
    if (this.#since !== undefined) this.#past += now - this.#since;
    this.#since = undefined;
  }

  #tell(change: LinkChange): void {
    // What one throws is its own affair, and the process's.
    for (const watcher of [...this.#watchers]) queueMicrotask(() => watcher(change));
  }
}
