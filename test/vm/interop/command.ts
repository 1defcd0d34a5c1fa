/** `rdma-migrate` in its own process, observed through the events of `--json`. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { CHECKOUT } from '../checkout.ts';

/** One line of `--json`. */
export type CommandEvent = Readonly<Record<string, unknown>> & { readonly event: string };

/** How the command ended. */
export interface Outcome {
  /** null: it was killed. */
  readonly exitCode: number | null;
  /** `completed` or `error` and its fields; undefined if it ended without either. */
  readonly last: CommandEvent | undefined;
  readonly stderr: string;
  readonly seconds: number;
}

const CLI = join(CHECKOUT, 'dist/cli/main.js');
const MAX_STDERR = 16_384;

export class RdmaMigrate implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #outcome: Promise<Outcome>;
  readonly #waiting = new Map<string, { see: (event: CommandEvent) => void; says: string }>();
  #last: CommandEvent | undefined;
  #stderr = '';

  constructor(args: readonly string[]) {
    this.#child = spawn(process.execPath, [CLI, ...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
    this.#child.stderr?.on('data', (bytes: Buffer) => {
      this.#stderr = (this.#stderr + bytes.toString()).slice(-MAX_STDERR);
    });
    createInterface({ input: this.#child.stdout as Readable }).on('line', (line) => this.#take(line));
    this.#outcome = this.#watch();
  }

  /**
   * The first event of a kind that comes from now on and whose message contains `says`.
   *
   * @throws when the command ends without it
   */
  async event(name: string, says = ''): Promise<CommandEvent> {
    const seen = new Promise<CommandEvent>((see) => this.#waiting.set(name, { see, says }));
    const over = this.#outcome.then((outcome) => {
      throw new Error(`rdma-migrate ended before it said ${name}: ${JSON.stringify(outcome)}`);
    });
    return Promise.race([seen, over]);
  }

  outcome(): Promise<Outcome> {
    return this.#outcome;
  }

  /** As a service manager ends it. */
  async terminate(): Promise<void> {
    this.#child.kill('SIGTERM');
    await this.#outcome;
  }

  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#outcome;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.kill();
  }

  #take(line: string): void {
    const event = JSON.parse(line) as CommandEvent;
    if (event.event === 'completed' || event.event === 'error') this.#last = event;
    const waiting = this.#waiting.get(event.event);
    if (!waiting || !String(event.message ?? '').includes(waiting.says)) return;
    waiting.see(event);
    this.#waiting.delete(event.event);
  }

  async #watch(): Promise<Outcome> {
    const started = performance.now();
    const [exitCode] = (await once(this.#child, 'close')) as [number | null];
    const seconds = (performance.now() - started) / 1000;
    return { exitCode, last: this.#last, stderr: this.#stderr, seconds };
  }
}
