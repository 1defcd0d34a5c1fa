/** One run of the VM: boots, runs the job, returns its exit status. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFile, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable, Writable } from 'node:stream';
import type { BenchArguments } from './arguments.ts';
import { CHECKOUT, guestFile } from './checkout.ts';
import { BenchError, EXIT } from './failures.ts';
import { jobScript, settingsScript } from './job.ts';
import { machineArguments, STDERR_FD, STDOUT_FD } from './machine-args.ts';
import { packMemory } from './memory.ts';
import type { Bench } from './setup.ts';

export interface RunOptions extends BenchArguments {
  readonly stdout: Writable;
  readonly stderr: Writable;
  /**
   * Give the VM what it loads repeatedly as files in its memory: our programs then start in half the time. Costs
   * some seconds at the start.
   */
  readonly inMemory?: boolean;
  /** Ends the VM at once, like pulling the plug. */
  readonly signal?: AbortSignal;
}

const CONSOLE_LINES = 30;

async function writeRun(folder: string, options: RunOptions): Promise<void> {
  const job = { ...options, checkout: CHECKOUT, environment: process.env };
  await copyFile(guestFile('start.sh'), join(folder, 'start.sh'));
  await writeFile(join(folder, 'settings.sh'), settingsScript(job));
  await writeFile(join(folder, 'job.sh'), jobScript(job));
  if (options.inMemory) await packMemory(join(folder, 'memory.tar'));
}

/** With setpriv, QEMU ends with this process, however that ends. */
function startQemu(args: readonly string[]): ChildProcess {
  const command = ['--pdeathsig', 'KILL', 'qemu-system-x86_64', ...args];
  return spawn('setpriv', command, { stdio: ['ignore', 'ignore', 'pipe', 'pipe', 'pipe'] });
}

/** Whatever ends the wait for the VM kills it; `reason` says which it was. */
async function ended(child: ChildProcess, options: RunOptions): Promise<'ended' | 'timeout' | 'cancelled'> {
  const deadline = AbortSignal.timeout(options.timeoutMs);
  const stop = AbortSignal.any([deadline, ...(options.signal ? [options.signal] : [])]);
  const kill = () => child.kill('SIGKILL');
  stop.addEventListener('abort', kill);
  if (stop.aborted) kill();
  try {
    await once(child, 'close');
  } finally {
    stop.removeEventListener('abort', kill);
  }
  if (!stop.aborted) return 'ended';
  return deadline.aborted ? 'timeout' : 'cancelled';
}

async function lastOfConsole(file: string): Promise<string> {
  const text = await readFile(file, 'latin1').catch(() => '');
  return text.replaceAll('\r', '').trimEnd().split('\n').slice(-CONSOLE_LINES).join('\n');
}

async function exitStatus(folder: string, said: string): Promise<number> {
  const status = await readFile(join(folder, 'status'), 'utf8').catch(() => '');
  if (/^\d{1,3}\n$/.test(status)) return Number(status);
  const console = await lastOfConsole(join(folder, 'console.log'));
  throw new BenchError(
    EXIT.machineFailed,
    `the VM ended without the command's exit status. QEMU said: ${said.trim() || 'nothing'}. Its console ended with:\n${console}`,
  );
}

async function runIn(folder: string, bench: Bench, options: RunOptions): Promise<number> {
  await writeRun(folder, options);
  const consoleLog = join(folder, 'console.log');
  const layout = { ...bench, ...options, checkout: CHECKOUT, run: folder, consoleLog };
  const child = startQemu(machineArguments(layout));
  let said = '';
  child.stderr?.on('data', (bytes: Buffer) => {
    said = (said + bytes.toString()).slice(-4096);
  });
  (child.stdio[STDOUT_FD] as Readable).pipe(options.stdout, { end: false });
  (child.stdio[STDERR_FD] as Readable).pipe(options.stderr, { end: false });
  const how = await ended(child, options);
  if (options.verbose) options.stderr.write(await readFile(consoleLog, 'latin1').catch(() => ''));
  if (how === 'cancelled') throw options.signal?.reason;
  if (how === 'ended') return exitStatus(folder, said);
  const console = await lastOfConsole(consoleLog);
  const message = `no end within ${options.timeoutMs / 1000} s (--timeout): the VM was stopped${console && `. Its console ended with:\n${console}`}`;
  throw new BenchError(EXIT.timeout, message);
}

/**
 * Runs a command in the VM; its output goes to the given streams as it comes.
 *
 * @returns the command's exit status
 * @throws BenchError with exit code 124 (timeout) or 70 (the VM failed); the signal's reason when that ended it
 */
export async function runInMachine(bench: Bench, options: RunOptions): Promise<number> {
  const folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-vm-'));
  try {
    return await runIn(folder, bench, options);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
