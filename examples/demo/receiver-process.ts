import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as delay } from 'node:timers/promises';
import { MigrationError, type MigrationResult } from 'rdma-migrate';
import type { ReceiverJob, ReceiverReport } from './receiver-messages.ts';

const START_TIMEOUT_MS = 30_000;
const END_TIMEOUT_MS = 10_000;

/** A destination that waits for one VM in a process of its own. */
export interface Receiver extends AsyncDisposable {
  readonly uri: string;
  readonly pid: number;
  /** What the destination says of the migration, when it is complete there. */
  readonly received: Promise<MigrationResult>;
}

export type StartReceiver = (job: ReceiverJob) => Promise<Receiver>;

/**
 * Starts the process and waits until it listens.
 * @throws MigrationError with the reason that the process gave, TIMEOUT
 */
export async function startReceiver(job: ReceiverJob): Promise<Receiver> {
  const child = fork(new URL('./receiver.js', import.meta.url));
  const reports = new Reports(child);
  child.send(job);
  try {
    const deadline = delay(START_TIMEOUT_MS, undefined, { ref: false }).then(() => {
      throw new MigrationError(
        'TIMEOUT',
        'listen',
        `the receiving process did not listen in ${START_TIMEOUT_MS} ms`,
      );
    });
    const uri = await Promise.race([reports.listening, deadline]);
    const pid = child.pid ?? 0;
    return { uri, pid, received: reports.received, [Symbol.asyncDispose]: () => end(child) };
  } catch (error) {
    await end(child);
    throw error;
  }
}

/** The child's reports as promises; its end rejects those that are open. */
class Reports {
  readonly listening: Promise<string>;
  readonly received: Promise<MigrationResult>;

  constructor(child: ChildProcess) {
    const failed = new Promise<never>((_, reject) => {
      const fail = (message: string) => reject(new MigrationError('PEER_ERROR', 'ram', message));
      child.on('message', (report: ReceiverReport) => {
        if (report.type === 'failed') fail(report.message);
      });
      child.once('error', (error) => fail(`the receiving process cannot be started: ${error.message}`));
      child.once('exit', (code, signal) =>
        fail(`the receiving process ended (${signal ?? `exit code ${code}`})`),
      );
    });
    this.listening = Promise.race([failed, report(child, 'listening').then(({ uri }) => uri)]);
    this.received = Promise.race([failed, report(child, 'received').then(({ result }) => result)]);
    // Who waits for neither any more is not to be ended by them.
    this.listening.catch(() => undefined);
    this.received.catch(() => undefined);
  }
}

type Report<T extends ReceiverReport['type']> = Extract<ReceiverReport, { type: T }>;

function report<T extends ReceiverReport['type']>(child: ChildProcess, type: T): Promise<Report<T>> {
  return new Promise((resolve) => {
    child.on('message', (message: ReceiverReport) => {
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
