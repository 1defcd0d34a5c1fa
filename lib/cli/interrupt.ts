import type { StopSignal } from './exit-codes.ts';
import { outlivesTerminal } from './hangup.ts';

const SIGNALS: readonly StopSignal[] = ['SIGINT', 'SIGTERM', 'SIGHUP'];

/**
 * Makes SIGINT, SIGTERM and SIGHUP an AbortSignal. The first one cancels: whoever works has the time to tell its peer and to clean up. A
 * second SIGINT or SIGTERM ends the process at once, by the signal itself: `process.exit` waits for threads, and one may be in a blocked
 * system call. A second SIGHUP does not: when a terminal closes, the kernel sends one and the shell another.
 */
export class Interrupt {
  readonly #controller = new AbortController();
  readonly #onFirst: (signal: StopSignal) => void;
  readonly #ignoreHangup: boolean;
  #received: StopSignal | undefined;
  #armed = true;

  /** `onFirst` tells the user. `ignoreHangup`: SIGHUP means nothing, as with nohup. */
  constructor(onFirst: (signal: StopSignal) => void, ignoreHangup = outlivesTerminal()) {
    this.#onFirst = onFirst;
    this.#ignoreHangup = ignoreHangup;
    for (const name of SIGNALS) process.on(name, this.#onSignal);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** The signal that cancelled, if one has come. */
  get received(): StopSignal | undefined {
    return this.#received;
  }

  /** The work is done: a signal changes nothing any more. */
  disarm(): void {
    this.#armed = false;
  }

  /** Dies of that signal: the process ends whatever its threads do. */
  die(signal: NodeJS.Signals): void {
    for (const name of SIGNALS) process.off(name, this.#onSignal);
    process.kill(process.pid, signal);
  }

  readonly #onSignal = (name: NodeJS.Signals): void => {
    if (!this.#armed) return;
    if (name === 'SIGHUP' && (this.#ignoreHangup || this.#received !== undefined)) return;
    if (this.#received !== undefined) {
      this.die(name);
      return;
    }
    this.#received = name as StopSignal;
    this.#onFirst(this.#received);
    this.#controller.abort(new Error(`${name} received`));
  };
}
