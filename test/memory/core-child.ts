/** Holds RAM of both kinds, for a test that ends it with a core dump. */
import { writeFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { mapFile, mapMemfd } from '../../lib/index.ts';

/** `folder`: where the core goes; it has the file `ram` of `bytes` bytes. */
export async function run(folder: string, bytes: string): Promise<void> {
  process.chdir(folder);
  // Mappings of files too, which the kernel leaves out by default.
  await writeFile('/proc/self/coredump_filter', '0x7f');
  const length = BigInt(bytes);
  const file = await mapFile({ path: `${folder}/ram`, length, mode: 'read' });
  const memfd = await mapMemfd({ name: 'core-test', length });
  await Promise.all([file.digest(), memfd.populate(0n, length)]);
  process.stdout.write('mapped\n');
  await delay(60_000);
  await Promise.all([file.close(), memfd.close()]);
}
