/** The destination's process of the sparse benchmark: one migration into new memory. Reports its URI, then what it took. */
import { readFileSync } from 'node:fs';
import { MigrationDestination } from 'rdma-migrate';
import { FreshTarget } from '../throughput/memory-vm.ts';

await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', new FreshTarget(), {
  provider: 'iwarp',
});
process.send?.({ uri: destination.uri });
const before = process.cpuUsage();
await destination.receive();
const { user, system } = process.cpuUsage(before);
const peak = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
process.send?.({ peakMiB: Number(peak) / 1024, cpuSeconds: (user + system) / 1e6 });
process.disconnect();
