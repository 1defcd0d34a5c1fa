import { randomBytes } from 'node:crypto';
import { lstat, mkdir, readdir, readFile, readlink, rm, statfs } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { z } from 'zod';
import { createDurable, DIRECTORY_MODE, openRegular, readBounded } from './files.ts';

/** Says which process fills a partial directory. */
export const OWNER_FILE = 'owner.json';

const ownerSchema = z.strictObject({
  pid: z.int().positive(),
  /** Field 22 of /proc/PID/stat: tells a process from a later one with the same pid. */
  startTime: z.string(),
  pidNamespace: z.string(),
  bootId: z.string(),
});
type Owner = z.output<typeof ownerSchema>;

/** A directory that an unfinished receive left behind or is filling right now. */
export interface PartialImage {
  readonly path: string;
  /** `dead`: its process is surely gone. `unknown`: another host, container or boot may still be at it. */
  readonly owner: 'alive' | 'dead' | 'unknown';
  readonly pid?: number;
}

/** Every partial directory of `image` starts with this name, next to it: rename(2) needs the same file system. */
const prefixOf = (image: string): string => `.${basename(image)}.partial-`;

/** Makes a fresh partial directory for `image` and says in it who fills it. */
export async function createPartial(image: string): Promise<string> {
  const path = join(dirname(image), prefixOf(image) + randomBytes(8).toString('hex'));
  await mkdir(path, { mode: DIRECTORY_MODE });
  try {
    await createDurable(join(path, OWNER_FILE), Buffer.from(JSON.stringify(await describeSelf())));
  } catch (error) {
    await removePartial(path);
    throw error;
  }
  return path;
}

export async function removePartial(path: string): Promise<void> {
  await rm(path, { recursive: true, force: true });
}

/** The partial directories of `image`, whoever made them. */
export async function findPartials(image: string): Promise<PartialImage[]> {
  const parent = dirname(image);
  const names = await readdir(parent);
  const found = names.filter((name) => name.startsWith(prefixOf(image))).map((name) => join(parent, name));
  return Promise.all(found.map(examine));
}

/**
 * Removes the partial directories of `image` whose processes are surely dead and that belong to this user.
 * Gives the paths that it removed. One that cannot be removed is left for the next time.
 */
export async function removeDeadPartials(image: string): Promise<string[]> {
  const removed: string[] = [];
  for (const partial of await findPartials(image)) {
    if (partial.owner !== 'dead') continue;
    const gone = await removePartial(partial.path).then(
      () => true,
      () => false,
    );
    if (gone) removed.push(partial.path);
  }
  return removed;
}

async function examine(path: string): Promise<PartialImage> {
  const owner = await readOwner(path).catch(() => undefined);
  if (owner === undefined) return { path, owner: 'unknown' };
  return { path, owner: await stateOf(owner, path).catch(() => 'unknown' as const), pid: owner.pid };
}

async function readOwner(path: string): Promise<Owner | undefined> {
  const stats = await lstat(path);
  if (!stats.isDirectory() || stats.uid !== process.geteuid?.()) return undefined;
  const handle = await openRegular(join(path, OWNER_FILE));
  try {
    return ownerSchema.parse(JSON.parse(Buffer.from(await readBounded(handle, 4096, path)).toString()));
  } finally {
    await handle.close();
  }
}

async function stateOf(owner: Owner, path: string): Promise<PartialImage['owner']> {
  const self = await describeSelf();
  if (owner.bootId !== self.bootId) return (await isLocal(path)) ? 'dead' : 'unknown';
  if (owner.pidNamespace !== self.pidNamespace) return 'unknown';
  return (await startTimeOf(owner.pid)) === owner.startTime ? 'alive' : 'dead';
}

async function describeSelf(): Promise<Owner> {
  const startTime = await startTimeOf(process.pid);
  return {
    pid: process.pid,
    startTime: startTime ?? 'unknown',
    pidNamespace: await readlink('/proc/self/ns/pid'),
    bootId: (await readFile('/proc/sys/kernel/random/boot_id', 'latin1')).trim(),
  };
}

/** undefined: there is no such process, or a zombie that holds nothing open any more. */
async function startTimeOf(pid: number): Promise<string | undefined> {
  const stat = await readFile(`/proc/${pid}/stat`, 'latin1').catch(() => undefined);
  // The second field is the command's name in parentheses and may hold spaces and parentheses itself.
  const fields = stat?.slice(stat.lastIndexOf(')') + 2).split(' ');
  return fields === undefined || fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
}

/** ext2-4, XFS, btrfs, F2FS, tmpfs: only one kernel mounts them, so another boot id means that the writer's kernel is gone. */
const LOCAL_FILE_SYSTEMS: ReadonlySet<number> = new Set([
  0xef53, 0x58465342, 0x9123683e, 0xf2f52010, 0x01021994,
]);

async function isLocal(path: string): Promise<boolean> {
  // f_type is a signed word on some architectures.
  return LOCAL_FILE_SYSTEMS.has((await statfs(path)).type >>> 0);
}
