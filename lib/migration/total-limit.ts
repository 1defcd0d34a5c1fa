import { MigrationError, type Phase } from '../errors.ts';

/** The longest time for all of a migration, as a signal that ends it. */
export class TotalLimit implements Disposable {
  readonly #controller = new AbortController();
  #timer: NodeJS.Timeout | undefined;

  /** Begins now; `milliseconds` undefined: no limit. `phase` is asked when the time is over. */
  constructor(milliseconds: number | undefined, phase: () => Phase) {
    if (milliseconds === undefined) return;
    this.#timer = setTimeout(() => this.#controller.abort(tooLong(milliseconds, phase())), milliseconds);
  }

  /** Aborts with TIMEOUT. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

function tooLong(milliseconds: number, phase: Phase): MigrationError {
  const message =
    `the migration has taken ${milliseconds / 1000} s in all, which is as long as it may take, and is not complete. ` +
    'Give it more time, or more bandwidth (total timeout)';
  return new MigrationError('TIMEOUT', phase, message, { details: { totalTimeoutMs: milliseconds } });
}
