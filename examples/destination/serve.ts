/** The child's side of `process.ts`: takes one job from its parent, receives one VM, and reports the result. */
import type { MigrationResult } from 'rdma-migrate';
import type { DestinationReport } from './process.ts';

/** Receives a VM; `listening` is called with the URI as soon as it can come. The signal says that the parent has gone. */
export type Receive<Job> = (
  job: Job,
  listening: (uri: string) => void,
  signal: AbortSignal,
) => Promise<MigrationResult>;

export function serveParent<Job>(receive: Receive<Job>): void {
  const abort = new AbortController();
  // Ctrl-C reaches every process of the terminal; the parent decides what it means.
  process.on('SIGINT', () => {});
  process.on('disconnect', () => abort.abort(new Error('the parent process ended')));
  process.once('message', async (job: Job) => {
    try {
      const result = await receive(job, (uri) => report({ type: 'listening', uri }), abort.signal);
      report({ type: 'arrived', result });
    } catch (error) {
      process.exitCode = 1;
      report({ type: 'failed', message: error instanceof Error ? error.message : String(error) });
    }
    if (process.connected) process.disconnect();
  });
}

function report(message: DestinationReport): void {
  if (process.connected) process.send?.(message);
}
