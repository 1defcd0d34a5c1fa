/** The demo without QEMU: a VM that never ran, compared byte by byte. */
import { join } from 'node:path';
import { fromQemu, openImage } from 'rdma-migrate';
import { type SyntheticBlock, syntheticStream } from '../synthetic/vm.ts';
import { requireEqualFiles } from './compare.ts';
import type { DemoContext } from './context.ts';
import { bytes } from './narrator.ts';
import { requireSameCounts, transfer } from './transfer.ts';

/** Migrates the VM and returns the verdict in one line. */
export async function migrateSyntheticVm(context: DemoContext): Promise<string> {
  const { narrator, workspace, ramBytes, signal } = context;
  const [sent, received] = [workspace.at('sent'), workspace.at('received')];
  narrator.step(
    `Make an image of a synthetic VM: ${bytes(ramBytes)} of random, mixed, sparse and zero pages`,
  );
  await fromQemu(syntheticStream(blocksOf(ramBytes)), sent, { signal });
  const moved = await transfer(context, { image: sent, ramFiles: {} }, { image: received, ramFiles: {} });
  requireSameCounts(moved);
  narrator.step('Compare what arrived with what was sent');
  const files = await requireEqualImages(sent, received);
  narrator.say(`${files} files, RAM and stream, are equal byte by byte`);
  return `${bytes(ramBytes)} of RAM went from process ${process.pid} to process ${moved.pid} over ${moved.uri}, equal byte by byte`;
}

/** Half random, a quarter mixed, an eighth sparse, an eighth zero; the size is a multiple of 1 MiB. */
function blocksOf(ramBytes: number): SyntheticBlock[] {
  const eighth = BigInt(ramBytes / 8);
  return [
    { name: 'random', length: 4n * eighth, fill: 'random' },
    { name: 'mixed', length: 2n * eighth, fill: 'mixed' },
    { name: 'sparse', length: eighth, fill: 'sparse' },
    { name: 'zero', length: eighth, fill: 'zero' },
  ];
}

/** @throws Error for the first file that differs. Returns the number of files. */
async function requireEqualImages(sent: string, received: string): Promise<number> {
  await using image = await openImage(sent);
  const { before, after, blocks } = image.manifest;
  const ram = blocks.flatMap(({ file }) => (file === undefined ? [] : [file]));
  const names = [before.file, after.file, ...ram];
  for (const name of names) await requireEqualFiles(join(received, name), join(sent, name));
  return names.length;
}
