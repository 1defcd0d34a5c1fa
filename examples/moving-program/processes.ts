/** The processes of a run, and what they say. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';

const ANSWER_MS = 60_000;

/** A process that reports objects with `said`. */
export class Process<Said extends { readonly said: string }, Told> implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #reports: Said[] = [];
  #ended = false;
  #wake = (): void => {};

  /** module: a path, of this folder if it is a relative one. */
  constructor(module: string) {
    this.#child = fork(fileURLToPath(new URL(module, import.meta.url)), { serialization: 'advanced' });
    this.#child.on('message', (said: Said) => {
      this.#reports.push(said);
      this.#wake();
    });
    this.#child.on('close', () => {
      this.#ended = true;
      this.#wake();
    });
  }

  get hasEnded(): boolean {
    return this.#ended;
  }

  tell(what: Told): void {
    if (this.#child.connected) this.#child.send(what as object);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** The next report; undefined: it has ended. @throws Error it says nothing */
  async next(): Promise<Said | undefined> {
    const late = AbortSignal.timeout(ANSWER_MS);
    while (this.#reports.length === 0 && !this.#ended) {
      await new Promise<void>((resolve, reject) => {
        this.#wake = resolve;
        late.addEventListener('abort', () => reject(new Error('a process says nothing')), { once: true });
      });
    }
    return this.#reports.shift();
  }

  /** The next report, which is this one. */
  async expect<S extends Said['said']>(said: S): Promise<Extract<Said, { said: S }>> {
    const report = await this.next();
    if (report?.said !== said)
      throw new Error(
        `expected '${said}', and a process says ${JSON.stringify(report ?? 'nothing: it ended')}`,
      );
    return report as Extract<Said, { said: S }>;
  }

  async end(): Promise<void> {
    if (this.#ended) return;
    const closed = once(this.#child, 'close');
    this.#child.kill('SIGKILL');
    await closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.end();
  }
}
