/** Starts the QEMU that a VM moves into. Until it is told to keep it, it ends with this process, however that ends. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MigrationError } from '../errors.ts';
import { QmpClient } from '../qmp/client.ts';
import { throwIfAborted } from '../transport/wait.ts';
import { endQemu } from './end.ts';
import { makeStateFolder } from './records.ts';

const START_TIMEOUT_MS = 30_000;
const KEEP_TIMEOUT_MS = 10_000;
const POLL_MS = 10;
/** A unix socket's path has 108 bytes with its end (unix(7)). */
const MOST_PATH_BYTES = 107;
const MOST_LOG = 2_000;
/** Reads one line; without it, as when whoever should write it has died, the process goes. */
const GUARD = 'read -r word; [ "$word" = keep ] || { kill -KILL "$1"; rm -rf "$2"; }';

/** A QEMU of ours that waits for a VM. Its owner closes it, or keeps it. */
export class LaunchedQemu implements AsyncDisposable {
  readonly pid: number;
  /** What is in it goes when QEMU is ended; what is kept stays usable: its QMP socket, its log. */
  readonly folder: string;
  readonly qmpSocket: string;
  readonly #child: ChildProcess;
  readonly #guard: ChildProcess;
  readonly #extraFiles: readonly string[];
  #qmp: QmpClient | undefined;
  #kept = false;
  #ended = false;

  private constructor(folder: string, child: ChildProcess, pid: number, extraFiles: readonly string[]) {
    this.folder = folder;
    this.qmpSocket = qmpPath(folder);
    this.pid = pid;
    this.#child = child;
    this.#extraFiles = extraFiles;
    this.#guard = spawn('/bin/sh', ['-c', GUARD, 'guard', String(pid), folder], {
      stdio: ['pipe', 'ignore', 'ignore'],
      detached: true,
    });
    this.#guard.on('error', () => void child.kill('SIGKILL'));
    this.#guard.stdin?.on('error', () => {});
    child.once('exit', () => {
      this.#ended = true;
    });
  }

  /**
   * @param command the program and its arguments, as for the source; what waiting takes is added
   * @throws MigrationError GUEST_ERROR with what QEMU wrote, TIMEOUT, CANCELLED
   */
  static async start(
    stateFolder: string,
    command: readonly string[],
    signal?: AbortSignal,
  ): Promise<LaunchedQemu> {
    await makeStateFolder(stateFolder);
    const folder = await mkdtemp(join(stateFolder, 'vm-'));
    await chmod(folder, 0o700);
    let launched: LaunchedQemu | undefined;
    try {
      launched = await LaunchedQemu.#spawn(folder, command);
      await launched.#connect(signal);
      return launched;
    } catch (error) {
      const said = await launched?.said();
      await launched?.close();
      await rm(folder, { recursive: true, force: true });
      throwIfAborted(signal, 'configure');
      if (launched === undefined && error instanceof MigrationError) throw error;
      const why = said || (error instanceof Error ? error.message : String(error));
      throw new MigrationError('GUEST_ERROR', 'configure', `${command[0]} did not start: ${why}`, {
        cause: error,
      });
    }
  }

  static async #spawn(folder: string, command: readonly string[]): Promise<LaunchedQemu> {
    const [program = '', ...given] = command;
    if (Buffer.byteLength(join(folder, 'incoming.sock')) > MOST_PATH_BYTES)
      throw new MigrationError(
        'INVALID_ARGUMENT',
        'configure',
        `${folder} is too long for the path of a unix socket: name a shorter --state-dir`,
      );
    const { args, files } = waitingArguments(given, folder);
    const log = await open(logPath(folder), 'a', 0o600);
    try {
      // QEMU would let everybody read it.
      for (const file of files) await (await open(file, 'wx', 0o600)).close();
      // A session of its own: what a terminal sends to this command is not for the guest.
      const child = spawn(program, args, { stdio: ['ignore', log.fd, log.fd], detached: true });
      if (child.pid === undefined) {
        const [cause] = (await once(child, 'error')) as [Error];
        for (const file of files) await rm(file, { force: true });
        throw cause;
      }
      child.on('error', () => {}); // of later signals
      child.unref();
      return new LaunchedQemu(folder, child, child.pid, files);
    } finally {
      await log.close();
    }
  }

  /** Its monitor, of which the owner is this object. */
  get qmp(): QmpClient {
    return this.#qmp as QmpClient;
  }

  /** Its process has not ended. */
  get alive(): boolean {
    return !this.#ended;
  }

  /** The last of what QEMU wrote. */
  async said(): Promise<string> {
    const text = await readFile(logPath(this.folder), 'utf8').catch(() => '');
    return text.slice(-MOST_LOG).trim();
  }

  async #connect(signal?: AbortSignal): Promise<void> {
    const deadline = performance.now() + START_TIMEOUT_MS;
    for (;;) {
      throwIfAborted(signal, 'configure');
      try {
        this.#qmp = await QmpClient.connect({ socket: this.qmpSocket, ...(signal && { signal }) });
        // QEMU has it open: nothing of it is left whoever dies.
        for (const file of this.#extraFiles) await rm(file, { force: true });
        return;
      } catch (error) {
        if (!this.alive || performance.now() > deadline) throw error;
      }
      await delay(POLL_MS);
    }
  }

  /** Once this resolves it outlives this process. @throws MigrationError GUEST_ERROR: it does not */
  async keep(): Promise<void> {
    this.#kept = true;
    const guard = this.#guard;
    guard.stdin?.end('keep\n');
    if (guard.exitCode === null && guard.signalCode === null)
      await once(guard, 'exit', { signal: AbortSignal.timeout(KEEP_TIMEOUT_MS) }).catch(() => {});
    if (guard.exitCode === 0 && this.alive) return;
    const message = `QEMU (process ${this.pid}) cannot be kept: it, or what guards it, has ended`;
    throw new MigrationError('GUEST_ERROR', 'commit', message);
  }

  /** Ends it: it certainly does not run any more when this resolves. Idempotent. @throws MigrationError GUEST_ERROR: it is there still */
  async end(): Promise<void> {
    this.#kept = false;
    await endQemu({
      pid: this.pid,
      qmp: this.alive ? this.#qmp : undefined,
      gone: (timeoutMs) => this.#gone(timeoutMs),
      kill: () => void this.#child.kill('SIGKILL'),
    });
    this.#guard.kill('SIGKILL');
    await this.#qmp?.close();
    for (const file of this.#extraFiles) await rm(file, { force: true }).catch(() => {});
    await rm(this.folder, { recursive: true, force: true }).catch(() => {});
  }

  async #gone(timeoutMs: number): Promise<boolean> {
    if (!this.alive) return true;
    const over = new AbortController();
    const { signal } = over;
    const late = delay(timeoutMs, undefined, { signal });
    await Promise.race([once(this.#child, 'exit', { signal }), late]).catch(() => {});
    over.abort();
    return !this.alive;
  }

  /** Ends it unless it was kept. */
  async close(): Promise<void> {
    if (!this.#kept) return this.end();
    await this.#qmp?.close();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const qmpPath = (folder: string): string => join(folder, 'qmp.sock');
const logPath = (folder: string): string => join(folder, 'qemu.log');

/** QEMU's options separate keys by commas; a comma in a value is doubled. */
const value = (text: string): string => text.replaceAll(',', ',,');

/**
 * What a QEMU needs to wait for a VM: `-incoming defer`, a QMP socket, and RAM that can be shared unless the arguments provide it.
 * @throws MigrationError INVALID_ARGUMENT: the arguments have an `-incoming` of their own, or daemonize
 */
export function waitingArguments(
  given: readonly string[],
  folder: string,
): { args: string[]; files: string[] } {
  const refused = given.find((argument) => /^--?(incoming|daemonize)$/.test(argument));
  if (refused !== undefined)
    throw new MigrationError(
      'INVALID_ARGUMENT',
      'configure',
      `leave out ${refused}: rdma-migrate qemu receive adds what waiting for a VM takes`,
    );
  const monitor = [
    '-chardev',
    `socket,id=rdma-migrate-qmp,path=${value(qmpPath(folder))},server=on,wait=off`,
  ];
  const waiting = [...monitor, '-mon', 'chardev=rdma-migrate-qmp,mode=control', '-S', '-incoming', 'defer'];
  if (given.some((argument) => argument.includes('memory-backend')))
    return { args: [...given, ...waiting], files: [] };
  const file = join('/dev/shm', `rdma-migrate-${process.pid}-${folder.slice(-6)}`);
  const ram = `memory-backend-file,id=pc.ram,size=${ramSize(given)},mem-path=${file},share=on`;
  return { args: [...given, '-object', ram, '-machine', 'memory-backend=pc.ram', ...waiting], files: [file] };
}

/** The size of `-m`, as QEMU takes it: a number is mebibytes. */
function ramSize(given: readonly string[]): string {
  const at = given.findIndex((argument) => /^--?m$/.test(argument));
  const [size = '128M'] = at < 0 ? [] : (given[at + 1] ?? '').replace(/^size=/, '').split(',');
  if (/^\d+$/.test(size)) return `${size}M`;
  if (/^\d+(\.\d+)?[kMGTbB]$/.test(size)) return size;
  throw new MigrationError(
    'INVALID_ARGUMENT',
    'configure',
    `expected the size of RAM after -m but received '${size}'`,
  );
}
