import type { SourceTurns } from '../transport/turns.ts';

/** A destination whose `responseTimeoutMs` is less than some of these takes a source that has nothing to say for a dead one. */
const MOST_QUIET_MS = 5_000;

/**
 * Lets a source be heard from while it sends nothing but WRITEs, or waits for its VMM: an RDMA device places WRITEs without telling, and the
 * other things are not seen by anybody. Ordered behind the WRITEs before it, an ALIVE also shows that those have been carried out.
 */
export class Heartbeat implements Disposable {
  readonly #timer: NodeJS.Timeout;

  /** `timeoutMs`: how long this end waits for the other one, which is likely to be what the other one waits. */
  constructor(turns: SourceTurns, timeoutMs: number) {
    const quietMs = Math.min(MOST_QUIET_MS, timeoutMs / 4);
    this.#timer = setInterval(() => void turns.alive(quietMs), quietMs / 4);
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
