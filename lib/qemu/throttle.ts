import { setTimeout as delay } from 'node:timers/promises';
import type { QmpClient } from '../qmp/client.ts';

/** Short compared with a usual downtime limit, long compared with a `stop` and `cont` (a millisecond or two). */
const PERIOD_MS = 100;

/**
 * Slows a guest down by pausing it for a part of every tenth of a second, with `stop` and `cont`: QEMU's own throttle works
 * only within its own migrations. A single pause lasts that part of the period, at most 99 ms.
 */
export class DutyCycle {
  readonly #qmp: QmpClient;
  #percentage = 0;
  #running: Promise<void> | undefined;
  #wake = new AbortController();

  constructor(qmp: QmpClient) {
    this.#qmp = qmp;
  }

  /** Percent of the time for which the guest is paused; 0 ends it, and the guest runs when that resolves. */
  async set(percentage: number): Promise<void> {
    this.#percentage = percentage;
    if (percentage > 0) {
      this.#running ??= this.#run();
      this.#running.catch(() => undefined); // made good by the call that sets 0
      return;
    }
    this.#wake.abort();
    const running = this.#running;
    this.#running = undefined;
    // It may have ended between stop and cont.
    await running?.catch(() => this.#qmp.execute('cont'));
  }

  async #run(): Promise<void> {
    this.#wake = new AbortController();
    const { signal } = this.#wake;
    while (this.#percentage > 0) {
      const still = (PERIOD_MS * this.#percentage) / 100;
      await this.#qmp.execute('stop');
      await delay(still, undefined, { signal }).catch(() => undefined);
      await this.#qmp.execute('cont');
      await delay(PERIOD_MS - still, undefined, { signal }).catch(() => undefined);
    }
  }
}
