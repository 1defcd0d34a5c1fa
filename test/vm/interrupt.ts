/** Ctrl-C and SIGTERM as an AbortSignal whose reason has the exit code that a shell reports. */
import { BenchError } from './failures.ts';

const NUMBERS = { SIGINT: 2, SIGTERM: 15, SIGHUP: 1 } as const;

export function interruptSignal(): AbortSignal {
  const controller = new AbortController();
  for (const [name, number] of Object.entries(NUMBERS)) {
    process.once(name, () => controller.abort(new BenchError(128 + number, `ended by ${name}`)));
  }
  return controller.signal;
}
