/** Writes part of a file as `image to-qemu` does and stops in the middle, for a test that kills it there. */
import { setTimeout as delay } from 'node:timers/promises';
import { withOutputFile } from '../../lib/cli/stream-file.ts';

export async function run(file: string): Promise<void> {
  const wait = { signal: new AbortController().signal, onWaiting: () => undefined };
  await withOutputFile(file, wait, async (output) => {
    await new Promise((resolve) => output.write(Buffer.alloc(1 << 20, 1), resolve));
    process.stdout.write('written\n');
    await delay(60_000);
  });
}
