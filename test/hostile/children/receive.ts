/**
 * Receives a VM, saying each phase, and how it ended, for a test that kills or limits it on the way. `stand`: it says so and stands there for ever,
 * with the commit asked for and nothing done, or with the VM durable and the source not told.
 */
import { type DestinationTarget, ImageWriter, MigrationDestination } from '../../../lib/index.ts';

export async function run(path: string, stand?: 'before' | 'after'): Promise<void> {
  const writer = await ImageWriter.open(path);
  const target = stand === undefined ? writer : standing(writer, stand);
  const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target);
  destination.on('phase', (phase) => process.stdout.write(`phase ${phase}\n`));
  process.stdout.write(`uri ${destination.uri}\n`);
  const outcome = await destination.receive().then(
    () => 'completed',
    (error: { code: string; phase: string }) => `failed ${error.code} ${error.phase}`,
  );
  await writer.close();
  process.stdout.write(`${outcome}\n`);
}

function standing(writer: DestinationTarget, stand: 'before' | 'after'): DestinationTarget {
  const forEver = (): Promise<void> => {
    process.stdout.write(`stands ${stand}\n`);
    return new Promise(() => setInterval(() => {}, 60_000));
  };
  return {
    ramIsFresh: writer.ramIsFresh === true,
    allocate: (vm) => writer.allocate(vm),
    append: (bytes) => writer.append(bytes),
    commit: async (arrival) => {
      if (stand === 'before') await forEver();
      await writer.commit(arrival);
      if (stand === 'after') await forEver();
    },
    abort: () => writer.abort(),
  };
}
