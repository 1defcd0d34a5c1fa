/** The command as a service, in a process of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** Whoever measures wants to see what is held, and not what nobody has collected yet. */
const COLLECTS = ['--expose-gc', '--import', 'data:text/javascript,process.on("SIGUSR2",()=>gc())'];
const COMMAND = fileURLToPath(import.meta.resolve('rdma-migrate').replace(/index\.js$/, 'cli/main.js'));

const COLLECTING_MS = 300;

type Line = Readonly<Record<string, unknown>>;

export class Service implements AsyncDisposable {
  readonly folder: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  /** Who waits for the last line of a migration. */
  readonly #waiting = new Map<string, (line: Line) => void>();
  uri = '';
  /** How often a source had to come again. */
  refused = 0;

  private constructor(folder: string, child: ChildProcess) {
    this.folder = folder;
    this.#child = child;
    this.#ended = once(child, 'exit');
  }

  static async start(folder: string, most: number): Promise<Service> {
    const args = [
      'receive',
      'rdma:127.0.0.1:0',
      '--keep',
      folder,
      '--json',
      '--max-migrations',
      String(most),
    ];
    const child = spawn(process.execPath, [...COLLECTS, COMMAND, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const service = new Service(folder, child);
    const listening = new Promise<string>((resolve, reject) => {
      createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', (text) => {
        const line = JSON.parse(text) as Line;
        if (line.event === 'listening') resolve(String(line.uri));
        else service.#heard(line);
      });
      child.once('exit', (code) => reject(new Error(`the service ended with ${code} before it listened`)));
    });
    service.uri = await listening;
    return service;
  }

  #heard(line: Line): void {
    if (line.event === 'error') process.stdout.write(`${JSON.stringify(line)}\n`);
    if (line.event !== 'completed' && line.event !== 'error') return;
    const id = String(line.migrationId);
    this.#waiting.get(id)?.(line);
    this.#waiting.delete(id);
  }

  get pid(): number {
    return this.#child.pid as number;
  }

  /** Resolves when the service has told the end of that migration. To be called before it begins. @throws Error it failed there */
  async end(migrationId: string): Promise<void> {
    const line = await new Promise<Line>((resolve) => {
      this.#waiting.set(migrationId, resolve);
    });
    if (line.event !== 'completed')
      throw new Error(`the service lost ${migrationId}: ${String(line.message)}`);
  }

  /** What nobody holds any more goes. */
  async collectGarbage(): Promise<void> {
    for (let round = 0; round < 3; round++) {
      this.#child.kill('SIGUSR2');
      await new Promise((resolve) => setTimeout(resolve, COLLECTING_MS));
    }
  }

  /** Ends it in good order. Its exit code. */
  async stop(): Promise<number | null> {
    this.#child.kill('SIGTERM');
    await this.#ended;
    return this.#child.exitCode;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    this.#child.kill('SIGKILL');
    await this.#ended;
  }
}
