/** The parent's side of a destination in its own process, as it would be on the other host; `serve.ts` is the child's side. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { MigrationError, type MigrationResult } from 'rdma-migrate';

const START_TIMEOUT_MS = 60_000;
const END_TIMEOUT_MS = 10_000;

/** What the child reports. */
export type DestinationReport =
  | { readonly type: 'listening'; readonly uri: string }
  | { readonly type: 'arrived'; readonly result: MigrationResult }
  | { readonly type: 'failed'; readonly message: string };

export interface DestinationProcess extends AsyncDisposable {
  readonly uri: string;
  readonly pid: number;
  /** What it says when the VM is there, and runs if that was the job. */
  readonly arrived: Promise<MigrationResult>;
  /** Ends it as a crash would. */
  kill(): void;
}

/**
 * Starts `module`, gives it its job and waits until it listens.
 * @throws MigrationError PEER_ERROR with the reason that the process gave, TIMEOUT
 */
export async function startDestination<Job extends object>(
  module: URL,
  job: Job,
): Promise<DestinationProcess> {
  const child = fork(fileURLToPath(module));
  const reports = new Reports(child);
  const wait = new AbortController();
  try {
    child.send(job);
    const late = delay(START_TIMEOUT_MS, undefined, { signal: wait.signal }).then(() => {
      throw new MigrationError(
        'TIMEOUT',
        'listen',
        `the destination did not listen in ${START_TIMEOUT_MS} ms`,
      );
    });
    late.catch(() => undefined);
    const uri = await Promise.race([reports.listening, late]);
    return {
      uri,
      pid: child.pid ?? 0,
      arrived: reports.arrived,
      kill: () => void child.kill('SIGKILL'),
      [Symbol.asyncDispose]: () => end(child),
    };
  } catch (error) {
    await end(child);
    throw error;
  } finally {
    wait.abort();
  }
}

/** The child's reports as promises; its end rejects those that are open. */
class Reports {
  readonly listening: Promise<string>;
  readonly arrived: Promise<MigrationResult>;

  constructor(child: ChildProcess) {
    const failed = new Promise<never>((_, reject) => {
      const fail = (message: string) => reject(new MigrationError('PEER_ERROR', 'ram', message));
      child.on('message', (report: DestinationReport) => {
        if (report.type === 'failed') fail(`the destination: ${report.message}`);
      });
      child.once('error', (error) => fail(`the destination cannot be started: ${error.message}`));
      child.once('exit', (code, signal) => fail(`the destination ended (${signal ?? `exit code ${code}`})`));
    });
    this.listening = Promise.race([failed, reported(child, 'listening').then(({ uri }) => uri)]);
    this.arrived = Promise.race([failed, reported(child, 'arrived').then(({ result }) => result)]);
    // Without a waiter their rejection must not end the process.
    this.listening.catch(() => undefined);
    this.arrived.catch(() => undefined);
  }
}

type Report<T extends DestinationReport['type']> = Extract<DestinationReport, { type: T }>;

function reported<T extends DestinationReport['type']>(child: ChildProcess, type: T): Promise<Report<T>> {
  return new Promise((resolve) => {
    child.on('message', (message: DestinationReport) => {
      if (message.type === type) resolve(message as Report<T>);
    });
  });
}

/** The child aborts what it does and ends when its parent disconnects. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return;
  const exited = once(child, 'exit');
  if (child.connected) child.disconnect();
  const timer = setTimeout(() => child.kill('SIGKILL'), END_TIMEOUT_MS);
  await exited;
  clearTimeout(timer);
}
