/** Sends a VM, saying each phase, for a test that kills it on the way. */
import { MigrationSource, openImage } from '../../../lib/index.ts';

export async function run(path: string, uri: string, pinAll: string, maxBandwidth: string): Promise<void> {
  const options = { pinAll: pinAll === 'true', maxBandwidth: BigInt(maxBandwidth) };
  await using image = await openImage(path);
  const source = new MigrationSource(image, uri, options);
  source.on('phase', (phase) => process.stdout.write(`phase ${phase}\n`));
  await source.migrate();
  process.stdout.write('completed\n');
}
