/** The destination's process of the sparse benchmark: one migration into new memory. Reports its URI, then the most memory it had resident. */
import { readFileSync } from 'node:fs';
import { type DestinationTarget, type Mapping, MigrationDestination, mapMemfd } from 'rdma-migrate';

class FreshMemory implements DestinationTarget {
  readonly ramIsFresh = true;
  readonly #mappings: Mapping[] = [];

  async allocate({ layout }: Parameters<DestinationTarget['allocate']>[0]) {
    return Promise.all(
      layout.blocks.map(async (block) => {
        const mapping = await mapMemfd({ name: block.name, length: block.length });
        this.#mappings.push(mapping);
        return { ...block, mapping };
      }),
    );
  }

  async append(): Promise<void> {}
  async commit(): Promise<void> {}
  async abort(): Promise<void> {}
}

await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', new FreshMemory(), {
  provider: 'iwarp',
});
process.send?.({ uri: destination.uri });
await destination.receive();
const peak = /^VmHWM:\s+(\d+) kB/m.exec(readFileSync('/proc/self/status', 'latin1'))?.[1];
process.send?.({ peakMiB: Number(peak) / 1024 });
process.disconnect();
