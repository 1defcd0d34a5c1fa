/**
 * The second process: what would run on the other host. It gets one {@link DestinationJob} from its parent, receives one running VM into a
 * QEMU that waits, lets the guest go on and tells how it went.
 */
import { MigrationDestination, QmpClient } from 'rdma-migrate';
import type { DestinationJob, DestinationReport } from './destination-messages.ts';
import { IncomingVm } from './incoming.ts';

/** `pc.ram` begins at guest-physical address 0. */
const GUEST_ADDRESSES = { 'pc.ram': 0n } as const;

const abort = new AbortController();
// Ctrl-C reaches every process of the terminal; the parent decides what it means.
process.on('SIGINT', () => {});
process.on('disconnect', () => abort.abort(new Error('the parent process ended')));
process.once('message', (job: DestinationJob) => void serve(job));

async function serve(job: DestinationJob): Promise<void> {
  try {
    await receive(job);
  } catch (error) {
    process.exitCode = 1;
    report({ type: 'failed', message: error instanceof Error ? error.message : String(error) });
  }
  if (process.connected) process.disconnect();
}

async function receive({ qmpSocket, ramFiles, folder, uri }: DestinationJob): Promise<void> {
  await using qmp = await QmpClient.connect({ socket: qmpSocket });
  await using vm = await IncomingVm.open({ qmp, ramFiles, guestAddresses: GUEST_ADDRESSES, folder });
  await using destination = await MigrationDestination.listen(uri, vm);
  report({ type: 'listening', uri: destination.uri });
  const result = await destination.receive({ signal: abort.signal });
  await vm.run();
  report({ type: 'running', result });
}

function report(message: DestinationReport): void {
  if (process.connected) process.send?.(message);
}
