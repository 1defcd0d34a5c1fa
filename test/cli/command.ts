/** The real command, compiled from lib/ into a temporary folder: Node 20 does not read TypeScript. */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { lineNameOf } from '../../lib/cli/json-lines/index.ts';

const PROJECT = fileURLToPath(new URL('../..', import.meta.url));
/** Far more than anything here takes; what hangs is killed and fails its test. */
const DEADLINE_MS = 40_000;

/** A test file that ends in any way leaves no process. */
const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

export interface CommandFolder extends AsyncDisposable {
  /** For images and other files of the tests. */
  readonly work: string;
  /** The command itself, for Node. */
  readonly main: string;
  start(...args: readonly string[]): RunningCommand;
  /** With more in its environment. */
  startWith(env: NodeJS.ProcessEnv, ...args: readonly string[]): RunningCommand;
  /** Runs it to its end. */
  run(...args: readonly string[]): Promise<Ended>;
}

/** Compiles the command. `addon: false`: it finds no addon. */
export async function buildCommand({ addon = true } = {}): Promise<CommandFolder> {
  const root = await mkdtemp(join(tmpdir(), 'rdma-migrate-cli-'));
  const tsc = join(PROJECT, 'node_modules/.bin/tsc');
  const options = ['-p', join(PROJECT, 'tsconfig.build.json'), '--outDir', join(root, 'dist'), '--noCheck'];
  await promisify(execFile)(tsc, options);
  for (const name of ['package.json', 'node_modules', 'web', ...(addon ? ['build'] : [])]) {
    await symlink(join(PROJECT, name), join(root, name));
  }
  const work = await mkdtemp(join(root, 'work-'));
  const main = join(root, 'dist/cli/main.js');
  const startWith = (env: NodeJS.ProcessEnv, ...args: readonly string[]) =>
    new RunningCommand(main, args, work, { ...process.env, ...env });
  const start = (...args: readonly string[]) => startWith({}, ...args);
  return {
    work,
    main,
    start,
    startWith,
    run: (...args) => start(...args).ended,
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  };
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** A line of --json. */
export type Event = Readonly<Record<string, unknown>> & { readonly event: string };

export class RunningCommand {
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  readonly #args: readonly string[];
  #stdout = '';
  #stderr = '';

  constructor(main: string, args: readonly string[], cwd: string, env: NodeJS.ProcessEnv = process.env) {
    this.#args = args;
    this.#child = spawn(process.execPath, [main, ...args], { cwd, env, stdio: ['pipe', 'pipe', 'pipe'] });
    running.add(this.#child);
    (this.#child.stdout as Readable).on('data', (bytes: Buffer) => {
      this.#stdout += bytes.toString();
    });
    (this.#child.stderr as Readable).on('data', (bytes: Buffer) => {
      this.#stderr += bytes.toString();
    });
    // It may end before it has read everything.
    this.stdin.on('error', () => {});
    this.ended = this.#end();
  }

  async #end(): Promise<Ended> {
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), DEADLINE_MS);
    const [code, signal] = await once(this.#child, 'close');
    clearTimeout(timer);
    running.delete(this.#child);
    this.#requireKnownLines();
    return { code, signal, stdout: this.#stdout, stderr: this.#stderr };
  }

  /** Whatever a test is about: docs/json-lines.schema.json has every line that was printed. */
  #requireKnownLines(): void {
    if (!this.#args.includes('--json')) return;
    for (const line of eventsOf(this.#stdout.slice(0, this.#stdout.lastIndexOf('\n') + 1))) lineNameOf(line);
  }

  get stdin(): NodeJS.WritableStream {
    return this.#child.stdin as NodeJS.WritableStream;
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Goes away as the reader of its stdout. */
  closeStdout(): void {
    this.#child.stdout?.destroy();
  }

  /** The part of stdout that the pattern matches, as soon as it is there. */
  waitForOutput(pattern: RegExp): Promise<RegExpExecArray> {
    return this.#waitFor(() => pattern.exec(this.#stdout), String(pattern));
  }

  /** The same of stderr. */
  waitForMessage(pattern: RegExp): Promise<RegExpExecArray> {
    return this.#waitFor(() => pattern.exec(this.#stderr), String(pattern));
  }

  /** The first event of that name for which `wanted` holds, as soon as it is there. */
  waitForEvent(name: string, wanted: (event: Event) => boolean = () => true): Promise<Event> {
    const complete = (): string => this.#stdout.slice(0, this.#stdout.lastIndexOf('\n') + 1);
    const look = (): Event | undefined =>
      eventsOf(complete()).find((event) => event.event === name && wanted(event));
    return this.#waitFor(look, `event ${name}`);
  }

  async #waitFor<T>(look: () => T | null | undefined, what: string): Promise<T> {
    for (;;) {
      const found = look();
      if (found) return found;
      // `close` comes after the last data, which the next check has to see.
      if (
        this.#child.stdout?.readableEnded ||
        this.#child.exitCode !== null ||
        this.#child.signalCode !== null
      ) {
        const end = await this.ended;
        const last = look();
        if (last) return last;
        throw new Error(
          `${this.#args.join(' ')} ended with ${end.code ?? end.signal} before ${what}: ${end.stdout}${end.stderr}`,
        );
      }
      const { stdout, stderr } = this.#child;
      await Promise.race([once(stdout as Readable, 'data'), once(stderr as Readable, 'data'), this.ended]);
    }
  }
}

export function eventsOf(stdout: string): Event[] {
  return stdout
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Event);
}
