/** A QEMU of the demo, whoever started it. Its QMP socket has one client at a time: each question is a connection of its own. */
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { MigrationError, QmpClient } from 'rdma-migrate';

const QUIT_TIMEOUT_MS = 2_000;
const END_TIMEOUT_MS = 10_000;
const POLL_MS = 10;

export interface VmFacts {
  readonly name: string;
  readonly pid: number;
  readonly qmpSocket: string;
  /** One for each NUMA node, in their order. */
  readonly ramFiles: readonly string[];
  readonly serialFile: string;
}

export class Vm {
  readonly name: string;
  readonly pid: number;
  readonly qmpSocket: string;
  readonly ramFiles: readonly string[];
  readonly serialFile: string;

  constructor({ name, pid, qmpSocket, ramFiles, serialFile }: VmFacts) {
    this.name = name;
    this.pid = pid;
    this.qmpSocket = qmpSocket;
    this.ramFiles = ramFiles;
    this.serialFile = serialFile;
  }

  /** That of the first node: the guest uses no other. */
  get ramFile(): string {
    return this.ramFiles[0] as string;
  }

  async execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    await using qmp = await QmpClient.connect({ socket: this.qmpSocket });
    return await qmp.execute(command, args);
  }

  /** QMP's `query-status`: `running`, `paused`, `inmigrate`, `postmigrate`, ... */
  async status(): Promise<string> {
    return ((await this.execute('query-status')) as { status: string }).status;
  }

  /** Runs a command of QEMU's human monitor. */
  async monitor(command: string): Promise<string> {
    return String(await this.execute('human-monitor-command', { 'command-line': command }));
  }

  /** Whether its process is there. */
  async alive(): Promise<boolean> {
    const stat = await readFile(`/proc/${this.pid}/stat`, 'latin1').catch(() => undefined);
    return stat !== undefined && stat[stat.lastIndexOf(')') + 2] !== 'Z';
  }

  /** @throws MigrationError TIMEOUT; IO_ERROR when QEMU ends meanwhile */
  async waitUntil(what: string, done: () => Promise<boolean>, timeoutMs: number): Promise<void> {
    const deadline = performance.now() + timeoutMs;
    while (!(await done())) {
      if (!(await this.alive()))
        throw new MigrationError('IO_ERROR', 'setup', `${this.name} ended while it was waited for ${what}`);
      if (performance.now() > deadline)
        throw new MigrationError(
          'TIMEOUT',
          'setup',
          `${this.name}: ${what} did not come within ${timeoutMs} ms`,
        );
      await delay(POLL_MS);
    }
  }

  /** Whether it ends by itself. */
  async goesAway(timeoutMs: number): Promise<boolean> {
    const deadline = performance.now() + timeoutMs;
    while (await this.alive()) {
      if (performance.now() > deadline) return false;
      await delay(POLL_MS);
    }
    return true;
  }

  /** Ends it as a crash would. */
  kill(): void {
    this.signal('SIGKILL');
  }

  signal(name: 'SIGKILL' | 'SIGSTOP' | 'SIGCONT'): void {
    try {
      if (this.pid > 0) process.kill(this.pid, name);
    } catch {} // it has ended
  }

  /** Never fails. */
  async end(): Promise<void> {
    if (await this.alive()) await this.execute('quit').catch(() => undefined);
    if (await this.goesAway(QUIT_TIMEOUT_MS)) return;
    this.kill();
    await this.goesAway(END_TIMEOUT_MS);
  }
}
