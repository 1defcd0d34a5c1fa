import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { MigrationError, QmpClient } from 'rdma-migrate';
import { type QemuMachine, QMP_FD, qemuArguments } from './arguments.ts';

const QEMU = 'qemu-system-x86_64';
const MAX_STDERR = 64 * 1024;
const POLL_MS = 10;
const QUIT_TIMEOUT_MS = 3_000;

export interface QemuOptions extends Omit<QemuMachine, 'serialFile'> {
  /** Names the VM in messages and its serial log `<folder>/<name>.serial`. */
  readonly name: string;
  readonly folder: string;
  /** Default: qemu-system-x86_64 on the PATH. */
  readonly executable?: string;
  /** How long each step of its start may take. Default: 10 s. */
  readonly startTimeoutMs?: number;
}

const notInstalled = (executable: string) =>
  `${executable} is not installed: apt-get install qemu-system-x86 (Debian, Ubuntu)`;

/** Why QEMU cannot be used here and what to do, or undefined when it can. */
export function qemuMissing(executable: string = QEMU): string | undefined {
  const { error, status, stderr } = spawnSync(executable, ['--version'], {
    timeout: 10_000,
    encoding: 'utf8',
  });
  if (error && (error as NodeJS.ErrnoException).code === 'ENOENT') return notInstalled(executable);
  if (error) return `${executable} cannot be run: ${error.message}`;
  return status === 0 ? undefined : `${executable} --version failed: ${stderr.trim()}`;
}

/** A test that ends in any way, an uncaught error included, leaves no QEMU. */
const running = new Set<ChildProcess>();
process.on('exit', () => {
  for (const child of running) child.kill('SIGKILL');
});

/** One stock QEMU with our guest. Its owner closes it. */
export class Qemu implements AsyncDisposable {
  readonly name: string;
  readonly ramFile: string;
  readonly ramBytes: number;
  readonly serialFile: string;
  readonly #child: ChildProcess;
  readonly #exited: Promise<void>;
  #stderr = '';
  #spawnError: NodeJS.ErrnoException | undefined;
  #qmp: QmpClient | undefined;
  #closing: Promise<void> | undefined;

  private constructor(options: QemuOptions) {
    const { name, folder, executable = QEMU } = options;
    this.name = name;
    this.ramFile = options.ramFile;
    this.ramBytes = options.ramBytes;
    this.serialFile = join(folder, `${name}.serial`);
    // RAM file, QMP socket and serial log are made by QEMU, which would let others read them.
    const umask = process.umask(0o077);
    try {
      this.#child = spawn(executable, qemuArguments({ ...options, serialFile: this.serialFile }), {
        stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
      });
    } finally {
      process.umask(umask);
    }
    this.#exited = this.#watch(executable);
  }

  /**
   * Starts QEMU and connects to its QMP.
   *
   * @throws MigrationError `IO_ERROR` when it is not installed or ends at once; the message has what it wrote to stderr.
   */
  static async start(options: QemuOptions): Promise<Qemu> {
    const qemu = new Qemu(options);
    try {
      const socket = qemu.#child.stdio[QMP_FD] as Duplex;
      const { startTimeoutMs: timeoutMs } = options;
      qemu.#qmp = await QmpClient.connect({ socket, ...(timeoutMs !== undefined && { timeoutMs }) });
      return qemu;
    } catch (cause) {
      await qemu.close();
      throw qemu.#ended('did not start', cause);
    }
  }

  get qmp(): QmpClient {
    if (this.#qmp === undefined) throw new MigrationError('INTERNAL', 'setup', `${this.name} has no QMP yet`);
    return this.#qmp;
  }

  get pid(): number | undefined {
    return this.#child.pid;
  }

  /** What QEMU wrote to stderr, at most the last 64 KiB. */
  get stderr(): string {
    return this.#stderr;
  }

  /** False once the process has ended. */
  get alive(): boolean {
    return running.has(this.#child);
  }

  /** What the guest has written to its serial port so far. */
  serialText(): Promise<string> {
    return readFile(this.serialFile, 'latin1');
  }

  /** Runs a QMP command; when QEMU ends meanwhile, the error has its stderr. */
  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return this.qmp.execute(command, args).catch((cause) => this.#failed(command, cause));
  }

  /** QMP's `query-status`: `running`, `paused`, `inmigrate`, `postmigrate`, ... */
  async status(): Promise<string> {
    const { status } = (await this.execute('query-status')) as { status: string };
    return status;
  }

  /**
   * Waits until `done` gives a value.
   *
   * @throws MigrationError `TIMEOUT`, or `IO_ERROR` with QEMU's stderr when QEMU ends meanwhile.
   */
  async waitUntil<T>(what: string, done: () => Promise<T | undefined>, timeoutMs = 30_000): Promise<T> {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const value = await done().catch((cause) => this.#failed(what, cause));
      if (value !== undefined) return value;
      if (!this.alive) throw this.#ended(`ended while it was waited for ${what}`);
      if (performance.now() > deadline) {
        const message = `${this.name}: ${what} did not come within ${timeoutMs} ms. stderr: ${this.#stderr.trim()}`;
        throw new MigrationError('TIMEOUT', 'setup', message, { details: { timeoutMs } });
      }
      await delay(POLL_MS);
    }
  }

  /** Waits for a line of the guest that says that a pass above `above` is complete, and returns that pass. */
  async waitForPass(above = -1n, timeoutMs = 30_000): Promise<bigint> {
    return this.waitUntil(
      `the guest to count beyond pass ${above}`,
      async () => parsePasses(await this.serialText()).find((pass) => pass > above),
      timeoutMs,
    );
  }

  /** Ends the process like an operator's kill -9. */
  async kill(): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
    await this.#qmp?.close();
  }

  /** Ends the VM: `quit`, and by force if that takes more than 3 s. Never fails, idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    if (this.alive && this.#qmp) {
      await this.#qmp.execute('quit', {}, { timeoutMs: QUIT_TIMEOUT_MS }).catch(() => undefined);
      await Promise.race([this.#exited, delay(QUIT_TIMEOUT_MS, undefined, { ref: false })]);
    }
    await this.kill();
  }

  /** Resolves when the process has ended and its stderr is read, or when it could not be started. */
  async #watch(executable: string): Promise<void> {
    const child = this.#child;
    running.add(child);
    child.stderr?.on('data', (bytes: Buffer) => {
      this.#stderr = (this.#stderr + bytes.toString('utf8')).slice(-MAX_STDERR);
    });
    try {
      await once(child, 'close');
    } catch (error) {
      this.#spawnError = error as NodeJS.ErrnoException;
      this.#stderr = this.#spawnError.code === 'ENOENT' ? notInstalled(executable) : this.#spawnError.message;
    } finally {
      running.delete(child);
    }
  }

  /** A broken QMP connection is most often QEMU's end: its stderr then says why. */
  async #failed(what: string, cause: unknown): Promise<never> {
    if (cause instanceof MigrationError && cause.code === 'CONNECTION_CLOSED') {
      await Promise.race([this.#exited, delay(QUIT_TIMEOUT_MS, undefined, { ref: false })]);
      throw this.#ended(`ended while it was waited for ${what}`, cause);
    }
    throw cause;
  }

  #ended(what: string, cause?: unknown): MigrationError {
    const said =
      this.#stderr.trim() || (cause instanceof Error ? cause.message : 'it wrote nothing to stderr');
    return new MigrationError('IO_ERROR', 'setup', `QEMU ${this.name} ${what}: ${said}`, { cause });
  }
}

/**
 * The passes that a serial log reports as complete. The last line counts only with its line end.
 *
 * @throws MigrationError `STREAM_ERROR` when a line is not the guest's.
 */
export function parsePasses(serial: string): bigint[] {
  const lines = serial.split('\n').slice(0, -1);
  return lines.map((line) => {
    const pass = /^pass (\d+)$/.exec(line)?.[1];
    if (pass !== undefined) return BigInt(pass);
    throw new MigrationError(
      'STREAM_ERROR',
      'setup',
      `the guest printed ${JSON.stringify(line)}, expected "pass <n>"`,
    );
  });
}
