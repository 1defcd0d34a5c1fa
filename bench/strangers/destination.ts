/** The destination's process: says its address, then what came of its migration. */
import { MigrationDestination } from 'rdma-migrate';
import { MemoryTarget } from '../throughput/memory-vm.ts';

const target = new MemoryTarget();
const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, { provider: 'iwarp' });
process.send?.({ uri: destination.uri });
const result = await destination.receive().then(
  () => 'completed',
  (error: Error) => `${error.name}: ${error.message}`,
);
process.send?.({ result, strangers: destination.strangers });
await destination.close();
await target.close();
process.disconnect();
