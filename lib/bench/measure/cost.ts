import { performance } from 'node:perf_hooks';
import type { Cost } from '../wire/messages.ts';

/** What this process spends from now on. */
export class CostMeter {
  readonly #cpu = process.cpuUsage();
  readonly #loop = performance.eventLoopUtilization();

  read(): Cost {
    const { user, system } = process.cpuUsage(this.#cpu);
    const { utilization } = performance.eventLoopUtilization(this.#loop);
    const loopPermille = Math.max(0, Math.min(1000, Math.round(utilization * 1000) || 0));
    return { userUs: user, systemUs: system, loopPermille };
  }
}

export const cpuSeconds = ({ userUs, systemUs }: Cost): number => (userUs + systemUs) / 1e6;
