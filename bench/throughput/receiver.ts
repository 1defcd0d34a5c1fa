/** The destination's process of the benchmark: one migration for each message `{ crc }`, answered with its URI and then `{ done }`. */
import { MigrationDestination } from 'rdma-migrate';
import { MemoryTarget } from './memory-vm.ts';

const target = new MemoryTarget();
process.on('disconnect', () => process.exit(0));
process.on('message', async ({ crc }: { crc: boolean }) => {
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    crc,
    provider: 'iwarp',
  });
  process.send?.({ uri: destination.uri });
  await destination.receive();
  process.send?.({ done: true });
});
