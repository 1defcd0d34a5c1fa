/** Processes of a benchmark that talk to their parent by messages. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { ownChild } from './leftovers.ts';

export class Child implements AsyncDisposable {
  readonly #process: ChildProcess;
  readonly #messages: unknown[] = [];
  #wake: (() => void) | undefined;
  #gone: Error | undefined;

  /** module: the compiled file, as a URL. */
  constructor(module: URL, args: readonly string[] = []) {
    this.#process = ownChild(fork(fileURLToPath(module), args));
    this.#process.on('message', (message) => {
      this.#messages.push(message);
      this.#wake?.();
    });
    // 'exit' may come before messages that it said last.
    this.#process.once('close', (code, signal) => {
      this.#gone = new Error(`a process of the benchmark has ended (${signal ?? code})`);
      this.#wake?.();
    });
  }

  get pid(): number {
    return this.#process.pid as number;
  }

  say(message: object): void {
    this.#process.send(message);
  }

  /** The next message; one at a time is waited for. @throws Error the process has ended, or says `error` */
  async hear<T>(): Promise<T> {
    while (this.#messages.length === 0) {
      if (this.#gone) throw this.#gone;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    const message = this.#messages.shift() as T & { readonly error?: string };
    if (message?.error !== undefined) throw new Error(message.error);
    return message;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#gone) return;
    const closed = once(this.#process, 'close');
    this.#process.kill('SIGKILL');
    await closed;
  }
}
