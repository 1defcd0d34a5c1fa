import { statfs } from 'node:fs/promises';
import { MigrationError } from '../errors.ts';
import { during } from './errors.ts';
import { MAX_RAM_BYTES } from './manifest.ts';

/**
 * Refuses RAM that cannot fit whatever is done: more than the whole file system holds, or more than a process can map.
 * Free space is not asked for: RAM files are sparse and cost what the VM uses.
 * @throws MigrationError DISK_FULL, OUT_OF_MEMORY with `needed` and `limit` in bytes.
 */
export async function checkRamFits(directory: string, needed: bigint): Promise<void> {
  if (needed > MAX_RAM_BYTES) {
    throw new MigrationError(
      'OUT_OF_MEMORY',
      'image',
      `the VM has ${needed} bytes of RAM, a process can map ${MAX_RAM_BYTES}: receive it on a host with larger addresses`,
      { details: { needed, limit: MAX_RAM_BYTES } },
    );
  }
  const { blocks, bsize } = await during(`asking for the size of the file system of ${directory}`, () =>
    statfs(directory, { bigint: true }),
  );
  const limit = blocks * bsize;
  // Some virtual file systems tell no size.
  if (limit === 0n || needed <= limit) return;
  throw new MigrationError(
    'DISK_FULL',
    'image',
    `the VM has ${needed} bytes of RAM, the file system of ${directory} holds ${limit} bytes in all: name a directory on a larger one`,
    { details: { needed, limit } },
  );
}
