/**
 * One end of the footprint benchmark, in its own process: `receive IMAGE` or `send IMAGE URI [pin-all]`. Reports to its parent how long its event
 * loop was blocked while the migration ran.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { ImageWriter, MigrationDestination, MigrationSource, openImage } from 'rdma-migrate';

const [role, image, uri, pinAll] = process.argv.slice(2) as [string, string, string, 'pin-all'?];
const loop = monitorEventLoopDelay({ resolution: 1 });

async function receive(): Promise<void> {
  await using target = await ImageWriter.open(image);
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target);
  process.send?.({ uri: destination.uri });
  destination.on('phase', (phase) => phase === 'negotiate' && loop.enable());
  await destination.receive();
  loop.disable();
}

async function send(): Promise<void> {
  await using vm = await openImage(image);
  loop.enable();
  await new MigrationSource(vm, uri, { pinAll: pinAll !== undefined }).migrate();
  loop.disable();
}

process.send?.({ ready: true });
await new Promise((resolve) => process.once('message', resolve));
await (role === 'receive' ? receive() : send());
process.send?.({ p50: loop.percentile(50) / 1e6, p99: loop.percentile(99) / 1e6, max: loop.max / 1e6 });
process.disconnect();
