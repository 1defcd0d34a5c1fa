/** Receives a VM as an image and stops in the middle, for a test that kills it there. */
import { setTimeout as delay } from 'node:timers/promises';
import { ImageWriter } from '../../lib/image/index.ts';
import { deviceState, SMALL_VM } from './support.ts';

export async function run(path: string): Promise<void> {
  const writer = await ImageWriter.open(path);
  await writer.allocate(SMALL_VM);
  await writer.append(deviceState());
  process.stdout.write('received\n');
  await delay(60_000);
  await writer.abort();
}
