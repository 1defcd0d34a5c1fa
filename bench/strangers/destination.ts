/**
 * The destination's process: says its address, then what came of its migration, and stays until it hears something again. Its argument, if there is
 * one, is the folder of its credentials.
 */
import { once } from 'node:events';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { MigrationDestination } from 'rdma-migrate';
import { MemoryTarget } from '../throughput/memory-vm.ts';

const [creds] = process.argv.slice(2);
const target = new MemoryTarget();
const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
  provider: 'iwarp',
  ...(creds !== undefined && { tls: { creds } }),
});
let refused = 0;
destination.on('notice', (_, { code }) => {
  if (code === 'PEER_REFUSED') refused += 1;
});
const delay = monitorEventLoopDelay({ resolution: 1 });
process.send?.({ uri: destination.uri });
delay.enable();
const result = await destination.receive().then(
  () => 'completed',
  (error: Error) => `${error.name}: ${error.message}`,
);
delay.disable();
await destination.close();
await target.close();
const milliseconds = (nanoseconds: number): number => nanoseconds / 1e6;
process.send?.({
  result,
  strangers: destination.strangers,
  refused,
  delay: { p99: milliseconds(delay.percentile(99)), max: milliseconds(delay.max) },
});
await once(process, 'message');
process.disconnect();
