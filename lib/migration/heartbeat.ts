import type { ControlMessage } from '../protocol/control.ts';
import type { SourceTurns } from '../transport/turns.ts';

/** A destination whose `responseTimeoutMs` is less than some of these takes a source that has nothing to say for a dead one. */
const MOST_QUIET_MS = 5_000;
/** How often the destination is told how far this end is. */
const PROGRESS_MS = 500;

/**
 * Lets a source be heard from while it sends nothing but WRITEs, or waits for its VMM: an RDMA device places WRITEs without telling, and the
 * other things are not seen by anybody. Ordered after the WRITEs before it, an ALIVE also shows that those have been carried out. More often than
 * that it says how far it is, where that has been agreed on.
 */
export class Heartbeat implements Disposable {
  readonly #timers: readonly NodeJS.Timeout[];

  constructor(turns: SourceTurns, { aliveWithinMs, progress }: HeartbeatOptions) {
    const timers: NodeJS.Timeout[] = [];
    if (aliveWithinMs !== undefined) {
      const quietMs = Math.min(MOST_QUIET_MS, aliveWithinMs / 4);
      timers.push(setInterval(() => void turns.alive(quietMs), quietMs / 4));
    }
    if (progress) timers.push(setInterval(() => tellProgress(turns, progress), PROGRESS_MS));
    this.#timers = timers;
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers) clearInterval(timer);
  }
}

export interface HeartbeatOptions {
  /** How long this end waits for the other one, which is likely to be what the other one waits. undefined: it does not know ALIVE. */
  readonly aliveWithinMs: number | undefined;
  /** What is to be said of it, undefined while there is nothing to say. Absent: the destination does not know PROGRESS. */
  readonly progress: (() => ControlMessage | undefined) | undefined;
}

function tellProgress(turns: SourceTurns, progress: () => ControlMessage | undefined): void {
  const message = progress();
  if (message) void turns.alive(0, message);
}
