import type { StopSignal } from './exit-codes.ts';

const SIGNALS: readonly StopSignal[] = ['SIGINT', 'SIGTERM'];

/**
 * Makes SIGINT and SIGTERM an AbortSignal. The first one cancels: whoever works has the time to tell its peer and to clean up. The
 * second one ends the process at once, by the signal itself: `process.exit` waits for threads, and one may be in a blocked system call.
 */
export class Interrupt {
  readonly #controller = new AbortController();
  readonly #onFirst: (signal: StopSignal) => void;
  #received: StopSignal | undefined;

  /** `onFirst` tells the user. */
  constructor(onFirst: (signal: StopSignal) => void) {
    this.#onFirst = onFirst;
    for (const name of SIGNALS) process.on(name, this.#onSignal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The signal that cancelled, if one has come. */
  get received(): StopSignal | undefined {
    return this.#received;
  }

  /** Dies of that signal: the process ends whatever its threads do. */
  die(signal: NodeJS.Signals): void {
    for (const name of SIGNALS) process.off(name, this.#onSignal);
    process.kill(process.pid, signal);
  }

  readonly #onSignal = (name: NodeJS.Signals): void => {
    if (this.#received !== undefined) {
      this.die(name);
      return;
    }
    this.#received = name as StopSignal;
    this.#onFirst(this.#received);
    this.#controller.abort(new Error(`${name} received`));
  };
}
