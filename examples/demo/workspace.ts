import { mkdtemp, rm, statfs } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { MigrationError } from 'rdma-migrate';
import { bytes } from './narrator.ts';

const SHARED_MEMORY = '/dev/shm';
/** Device state, guest, logs, image files besides RAM. */
const MARGIN = 64 * 2 ** 20;

/** A folder for the demo's files, gone when the scope ends. */
export interface Workspace extends AsyncDisposable {
  readonly path: string;
  at(name: string): string;
}

/**
 * Makes a folder with room for two VMs: in memory, where RAM files belong, if there is enough, else on the disk.
 * @throws MigrationError DISK_FULL
 */
export async function openWorkspace(ramBytes: number): Promise<Workspace> {
  const needed = 2 * ramBytes + MARGIN;
  const parent = (await room(SHARED_MEMORY)) >= needed ? SHARED_MEMORY : tmpdir();
  const limit = await room(parent);
  if (limit < needed) {
    const message =
      `two VMs of ${bytes(ramBytes)} need ${bytes(needed)} of files, and ${parent} has ${bytes(limit)}, ${SHARED_MEMORY} no more: ` +
      'choose a smaller --ram, or name a folder with room in TMPDIR';
    throw new MigrationError('DISK_FULL', 'configure', message, { details: { needed, limit } });
  }
  const path = await mkdtemp(join(parent, 'rdma-migrate-demo-'));
  return {
    path,
    at: (name) => join(path, name),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

async function room(path: string): Promise<number> {
  const stats = await statfs(path).catch(() => undefined);
  return stats === undefined ? 0 : stats.bavail * stats.bsize;
}
