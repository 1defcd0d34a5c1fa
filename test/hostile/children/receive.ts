/** Receives a VM, saying each phase, and how it ended, for a test that kills or limits it on the way. */
import { ImageWriter, MigrationDestination } from '../../../lib/index.ts';

export async function run(path: string): Promise<void> {
  const writer = await ImageWriter.open(path);
  const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', writer);
  destination.on('phase', (phase) => process.stdout.write(`phase ${phase}\n`));
  process.stdout.write(`uri ${destination.uri}\n`);
  const outcome = await destination.receive().then(
    () => 'completed',
    (error: { code: string; phase: string }) => `failed ${error.code} ${error.phase}`,
  );
  await writer.close();
  process.stdout.write(`${outcome}\n`);
}
