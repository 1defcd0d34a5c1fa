/** A process, what it has said, and its end. */
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Readable, Writable } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 20;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export class Process {
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcessByStdio<Writable, Readable, Readable>;
  readonly #line: string;
  #stdout = '';
  #stderr = '';
  #isOver = false;

  constructor(command: string, args: readonly string[]) {
    this.#line = [command, ...args].join(' ');
    this.#child = spawn(command, args, { stdio: ['pipe', 'pipe', 'pipe'] });
    this.#child.stdout.on('data', (bytes: Buffer) => {
      this.#stdout += bytes.toString();
    });
    this.#child.stderr.on('data', (bytes: Buffer) => {
      this.#stderr += bytes.toString();
    });
    this.ended = this.#end();
    this.ended.catch(() => undefined);
  }

  async #end(): Promise<Ended> {
    try {
      const [code] = (await once(this.#child, 'close')) as [number | null];
      return { code, stdout: this.#stdout, stderr: this.#stderr };
    } finally {
      this.#isOver = true;
    }
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  get stdout(): string {
    return this.#stdout;
  }

  /** @throws Error it ends before, or does not say it in time */
  async says(pattern: RegExp, timeoutMs: number): Promise<RegExpExecArray> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const found = pattern.exec(this.#stdout);
      if (found) return found;
      if (this.#isOver || performance.now() > deadline)
        throw new Error(`${this.#line}\ndid not say ${pattern}, but: ${this.#stdout}${this.#stderr}`);
      await delay(POLL_MS);
    }
  }

  kill(): void {
    this.#child.kill('SIGKILL');
  }
}

/** Runs it to its end. @throws Error it takes too long */
export async function run(command: string, args: readonly string[], timeoutMs: number): Promise<Ended> {
  const running = new Process(command, args);
  const tooLong = delay(timeoutMs, undefined, { ref: false });
  const ended = await Promise.race([running.ended, tooLong]);
  if (ended) return ended;
  running.kill();
  throw new Error(`${command} ${args.join(' ')}\ntook longer than ${timeoutMs} ms`);
}

/** As {@link run}. @throws Error also when it fails: with what it said */
export async function must(command: string, args: readonly string[], timeoutMs: number): Promise<string> {
  const { code, stdout, stderr } = await run(command, args, timeoutMs);
  if (code === 0) return stdout;
  throw new Error(`${command} ${args.join(' ')}\nended with ${code}: ${stderr || stdout}`);
}
