/** The destination's process of the pinning benchmark: one migration for each message, answered with its URI and then its result. */
import { MigrationDestination } from 'rdma-migrate';
import { MemoryTarget } from '../throughput/memory-vm.ts';

export interface Order {
  readonly provider: 'iwarp' | 'verbs';
  readonly host: string;
  readonly pinBudget?: string;
}

// Registering with a device touches what it pins; in the emulated VM touching all of it takes longer than a source waits.
const memory = { iwarp: new MemoryTarget(), verbs: new MemoryTarget({ populates: false }) };
process.on('disconnect', () => process.exit(0));
process.on('message', async ({ provider, host, pinBudget }: Order) => {
  try {
    await using destination = await MigrationDestination.listen(`rdma:${host}:0`, memory[provider], {
      provider,
      ...(pinBudget !== undefined && { pinBudget: BigInt(pinBudget) }),
    });
    process.send?.({ uri: destination.uri });
    const result = await destination.receive();
    process.send?.({ peak: result['registered-peak'], budget: result['pin-budget'] });
  } catch (error) {
    process.send?.({ failure: String(error) });
  }
});
