/** Tells a service manager how it stands, as sd_notify(3) and sd_watchdog_enabled(3) describe it. Without one it says nothing. */
import { native } from '../../native/index.ts';

/** A part of the time that a watchdog allows. */
const OFTEN = 3;

export class ServiceManager implements Disposable {
  readonly #socket: string | undefined;
  readonly #failed: (message: string) => void;
  readonly #watchdogMs: number | undefined;
  #timers: NodeJS.Timeout[] = [];
  #status = '';
  #deaf = false;

  /** `failed`: told once, when what is said does not arrive. */
  constructor(failed: (message: string) => void, env: NodeJS.ProcessEnv = process.env) {
    this.#socket = env.NOTIFY_SOCKET || undefined;
    this.#failed = failed;
    this.#watchdogMs = watchdogOf(env);
  }

  /** Sources are taken. `status` is asked every so many milliseconds, and told when it has changed. */
  ready(status: () => string, everyMs: number): void {
    if (this.#socket === undefined) return;
    this.#status = status();
    this.#say(`READY=1\nSTATUS=${this.#status}`);
    this.#timers.push(setInterval(() => this.#tellStatus(status()), everyMs).unref());
    if (this.#watchdogMs !== undefined)
      this.#timers.push(setInterval(() => this.#say('WATCHDOG=1'), this.#watchdogMs / OFTEN).unref());
  }

  /** No new source is taken; the status and the watchdog are told of until the end. */
  stopping(): void {
    this.#say('STOPPING=1');
  }

  [Symbol.dispose](): void {
    for (const timer of this.#timers.splice(0)) clearInterval(timer);
  }

  #tellStatus(status: string): void {
    if (status === this.#status) return;
    this.#status = status;
    this.#say(`STATUS=${status}`);
  }

  #say(state: string): void {
    if (this.#socket === undefined) return;
    try {
      native.sendDatagram(this.#socket, state);
    } catch (error) {
      if (this.#deaf) return;
      this.#deaf = true;
      const why = error instanceof Error ? error.message : String(error);
      this.#failed(`the service manager could not be told of anything: ${why}`);
    }
  }
}

/** WATCHDOG_USEC counts only for the process that WATCHDOG_PID names, if it names one. */
function watchdogOf({ WATCHDOG_USEC = '', WATCHDOG_PID }: NodeJS.ProcessEnv): number | undefined {
  if (WATCHDOG_PID !== undefined && WATCHDOG_PID !== String(process.pid)) return undefined;
  const milliseconds = /^\d{1,15}$/.test(WATCHDOG_USEC) ? Number(WATCHDOG_USEC) / 1000 : 0;
  return milliseconds > 0 ? milliseconds : undefined;
}
