/**
 * The second process of the demo: what would run on the other host. It gets one {@link ReceiverJob} from its parent, receives one VM
 * and tells how it went.
 */
import { ImageWriter, MigrationDestination } from 'rdma-migrate';
import type { ReceiverJob, ReceiverReport } from './receiver-messages.ts';

const abort = new AbortController();
// Ctrl-C reaches every process of the terminal; the parent decides what it means.
process.on('SIGINT', () => {});
process.on('disconnect', () => abort.abort(new Error('the demo ended')));
process.once('message', (job: ReceiverJob) => void serve(job));

async function serve(job: ReceiverJob): Promise<void> {
  try {
    const result = await receive(job);
    report({ type: 'received', result });
  } catch (error) {
    process.exitCode = 1;
    report({ type: 'failed', message: error instanceof Error ? error.message : String(error) });
  }
}

async function receive({ image, ramFiles, crc }: ReceiverJob) {
  await using writer = await ImageWriter.open(image, { ramFiles });
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', writer, { crc });
  report({ type: 'listening', uri: destination.uri });
  return await destination.receive({ signal: abort.signal });
}

function report(message: ReceiverReport): void {
  if (process.connected) process.send?.(message);
}
