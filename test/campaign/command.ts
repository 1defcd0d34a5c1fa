/** An end of ours: the command in its own process, and what it reports. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';

/** The compiled command, from build/node/test/campaign. */
const MAIN = fileURLToPath(new URL('../../../../dist/cli/main.js', import.meta.url));

/** What an end has reported when it is over. */
export interface Said {
  /** Null: a signal ended it. */
  readonly exit: number | null;
  readonly signal: NodeJS.Signals | null;
  /** It was still there at the deadline, and was killed. */
  readonly hung: boolean;
  readonly outcome: string | undefined;
  readonly code: string | undefined;
  readonly message: string;
}

export class Command {
  readonly ended: Promise<Said>;
  phase = '';
  over = false;
  onPhase = (_phase: string): void => {};
  readonly #child: ChildProcess;
  readonly #events: Record<string, unknown>[] = [];
  #stderr = '';
  #wake = (): void => {};

  constructor(args: readonly string[], deadlineMs: number) {
    this.#child = spawn(process.execPath, [MAIN, ...args, '--json'], { stdio: ['ignore', 'pipe', 'pipe'] });
    createInterface(this.#child.stdout as Readable).on('line', (line) => this.#take(line));
    this.#child.stderr?.on('data', (bytes: Buffer) => {
      this.#stderr += bytes.toString();
    });
    this.ended = this.#end(deadlineMs);
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Where a receiver listens; undefined when it ended first. */
  async port(): Promise<number | undefined> {
    for (;;) {
      const uri = this.#events.find(({ event }) => event === 'listening')?.uri;
      if (typeof uri === 'string') return Number(uri.split(':').at(-1));
      if (this.over) return undefined;
      await Promise.race([new Promise<void>((resolve) => (this.#wake = resolve)), this.ended]);
    }
  }

  #take(line: string): void {
    const event = JSON.parse(line) as Record<string, unknown>;
    this.#events.push(event);
    this.#wake();
    if (event.event !== 'phase') return;
    this.phase = String(event.phase);
    this.onPhase(this.phase);
  }

  async #end(deadlineMs: number): Promise<Said> {
    let hung = false;
    const timer = setTimeout(() => {
      hung = true;
      this.#child.kill('SIGKILL');
    }, deadlineMs);
    const [exit, signal] = (await once(this.#child, 'close')) as [number | null, NodeJS.Signals | null];
    clearTimeout(timer);
    this.over = true;
    const last = this.#events.findLast(({ event }) => event === 'completed' || event === 'error') ?? {};
    const text = (name: string): string | undefined => last[name] as string | undefined;
    const message = text('message') ?? this.#stderr.slice(-500);
    return { exit, signal, hung, outcome: text('outcome'), code: text('code'), message };
  }
}
