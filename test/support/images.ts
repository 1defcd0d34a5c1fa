import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type SyntheticBlock, syntheticStream } from '../../examples/synthetic/vm.ts';
import { fromQemu, type ImageReader, openImage } from '../../lib/index.ts';

export const MIB = 1n << 20n;

/** Makes an image of a synthetic VM and opens it. The caller closes it. */
export async function syntheticImage(path: string, blocks: readonly SyntheticBlock[]): Promise<ImageReader> {
  await fromQemu(syntheticStream(blocks), path);
  return openImage(path);
}

/** The files in which two images differ, as judged by another program. Empty if they are the same VM. */
export async function differingFiles(left: string, right: string): Promise<string[]> {
  await using image = await openImage(left);
  const files = [
    'before.bin',
    'after.bin',
    ...image.manifest.blocks.flatMap((block) => (block.file === undefined ? [] : [block.file])),
  ];
  const differing: string[] = [];
  for (const file of files) {
    await promisify(execFile)('cmp', [join(left, file), join(right, file)]).catch(
      (error: { stdout?: string }) => {
        differing.push(error.stdout || file);
      },
    );
  }
  return differing;
}
