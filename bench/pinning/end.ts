/** The destination's process of the pinning benchmark: one migration for each message, answered with its URI and then the most that was registered. */
import { MigrationDestination } from 'rdma-migrate';
import { MemoryTarget } from '../throughput/memory-vm.ts';

export interface Order {
  readonly provider: 'iwarp' | 'verbs';
  readonly host: string;
}

// Registering with a device touches what it pins; in the emulated VM touching all of it takes longer than a source waits.
const memory = { iwarp: new MemoryTarget(), verbs: new MemoryTarget({ populates: false }) };
process.on('disconnect', () => process.exit(0));
process.on('message', async ({ provider, host }: Order) => {
  try {
    const target = memory[provider];
    await using destination = await MigrationDestination.listen(`rdma:${host}:0`, target, { provider });
    process.send?.({ uri: destination.uri });
    const result = await destination.receive();
    process.send?.({ peak: result['registered-peak'] });
  } catch (error) {
    process.send?.({ error: String(error) });
  }
});
