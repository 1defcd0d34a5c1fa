/** `rdma-migrate` as a process, as an operator runs it, read by its --json lines. */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { MigrationError } from 'rdma-migrate';

export type Line = Readonly<Record<string, unknown>> & { readonly event: string };

/** How it ended. */
export interface Ended {
  /** null: by a signal. */
  readonly code: number | null;
  /** The last line: `completed` or `error`, if there was one. */
  readonly last: Line | undefined;
}

/** The command is in the package, whether this module runs as TypeScript or compiled somewhere below the package's root. */
function commandPath(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) && folder !== dirname(folder)) folder = dirname(folder);
  return join(folder, 'dist', 'cli', 'main.js');
}

export class CommandProcess {
  readonly ended: Promise<Ended>;
  readonly #child: ChildProcess;
  readonly #lines: Line[] = [];
  readonly #listeners = new Set<() => void>();
  #over: Ended | undefined;

  constructor(args: readonly string[]) {
    const at = args.indexOf('--');
    const [ours, rest] = at < 0 ? [args, []] : [args.slice(0, at), args.slice(at)];
    this.#child = spawn(process.execPath, [commandPath(), ...ours, '--json', ...rest], {
      stdio: ['ignore', 'pipe', 'ignore'],
    });
    const { stdout } = this.#child;
    const lines = createInterface({ input: stdout as NonNullable<typeof stdout> });
    lines.on('line', (text) => this.#read(text));
    this.ended = new Promise((resolve) => {
      this.#child.once('close', (code) => {
        const last = this.#lines.findLast(({ event }) => event === 'completed' || event === 'error');
        this.#over = { code, last };
        this.#wake();
        resolve(this.#over);
      });
    });
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Calls back for each line, also those that have come. */
  onLine(listener: (line: Line) => void): void {
    let seen = 0;
    const look = (): void => {
      for (; seen < this.#lines.length; seen++) listener(this.#lines[seen] as Line);
    };
    this.#listeners.add(look);
    look();
  }

  /** The first line of an event. @throws MigrationError PEER_ERROR: the command ended without it */
  event(event: string): Promise<Line> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        const found = this.#lines.find((line) => line.event === event);
        if (found) resolve(found);
        else if (this.#over) {
          const why = this.#over.last?.message ?? `exit code ${this.#over.code}`;
          reject(
            new MigrationError('PEER_ERROR', 'setup', `rdma-migrate ended before it said ${event}: ${why}`),
          );
        } else return;
        this.#listeners.delete(look);
      };
      this.#listeners.add(look);
      look();
    });
  }

  kill(signal: 'SIGINT' | 'SIGTERM' | 'SIGKILL'): void {
    this.#child.kill(signal);
  }

  #read(text: string): void {
    this.#lines.push(JSON.parse(text) as Line);
    this.#wake();
  }

  #wake(): void {
    for (const listener of [...this.#listeners]) listener();
  }
}
