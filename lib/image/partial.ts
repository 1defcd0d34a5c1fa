import { randomBytes } from 'node:crypto';
import { lstat, mkdir, readdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { describeSelf, type Owner, type OwnerState, ownerSchema, stateOf } from '../owner.ts';
import { createDurable, DIRECTORY_MODE, openRegular, readBounded } from './files.ts';
import { outsideFilesOf } from './outside-files.ts';

/** Says which process fills a partial directory. */
export const OWNER_FILE = 'owner.json';

/** A directory that an unfinished receive or conversion has left or is filling right now. */
export interface PartialImage {
  readonly path: string;
  /** `dead`: its process is certainly gone. `unknown`: another host, container or boot may still be working on it. */
  readonly owner: OwnerState;
  readonly pid?: number;
}

/** Every partial directory of `image` starts with this name, next to it: rename(2) needs the same file system. */
const prefixOf = (image: string): string => `.${basename(image)}.partial-`;
const PARTIAL_NAME = /^\.(.+)\.partial-[0-9a-f]{16}$/s;

/** The intended name of the image or file. undefined: this is not the name of a partial directory. */
export const nameOfPartial = (name: string): string | undefined => PARTIAL_NAME.exec(name)?.[1];

/** Makes a new partial directory for `image`, a directory or a file, and records in it which process fills it. */
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

/** Removes a partial directory and its files outside. The caller knows that no process is using it. */
export async function removeWithOutside(path: string): Promise<void> {
  // The record is removed last: it still names what could not be removed.
  for (const file of await outsideFilesOf(path)) await rm(file, { force: true });
  await removePartial(path);
}

/** The partial directories of `image`, of any process. */
export async function findPartials(image: string): Promise<PartialImage[]> {
  const parent = dirname(image);
  const names = await readdir(parent);
  const found = names
    .filter((name) => nameOfPartial(name) === basename(image))
    .map((name) => join(parent, name));
  return Promise.all(found.map(examinePartial));
}

/**
 * Removes the partial directories of `image` whose processes are certainly dead and that belong to this user.
 * Returns the paths that it removed. One that cannot be removed is left for next time, and so is `but`.
 */
export async function removeDeadPartials(image: string, but?: string): Promise<string[]> {
  const removed: string[] = [];
  for (const partial of await findPartials(image)) {
    if (partial.owner !== 'dead' || partial.path === but) continue;
    const gone = await removeWithOutside(partial.path).then(
      () => true,
      () => false,
    );
    if (gone) removed.push(partial.path);
  }
  return removed;
}

/** Which process fills a partial directory. */
export async function examinePartial(path: string): Promise<PartialImage> {
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
