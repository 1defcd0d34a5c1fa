/** RAM that a receive which died has left beside an image. Nothing of it is relied on but that it belongs to this user. */
import { lstat, readdir, rename, rm, stat, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { codeOf } from './errors.ts';
import { openRegular } from './files.ts';
import { outsideFilesOf } from './outside-files.ts';
import { findPartials, removePartial, removeWithOutside } from './partial.ts';

const RAM_FILE = /^ram-\d+\.bin$/;
const FOLDER = 'earlier';

/** Of one image, the newest. */
export class Abandoned {
  /** Its partial directory, until {@link moveInto}. */
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  /** undefined: there is none whose process is certainly dead and that is this user's alone. */
  static async of(image: string): Promise<Abandoned | undefined> {
    const dead = (await findPartials(image)).filter(({ owner }) => owner === 'dead');
    const found = await Promise.all(dead.map(({ path }) => changedAt(path)));
    const newest = found.filter((one) => one !== undefined).sort((one, other) => other.at - one.at)[0];
    return newest && new Abandoned(newest.path);
  }

  /**
   * Takes the RAM files over, into a folder of this directory, and gives its path. undefined: another process was first. Files outside the image are
   * removed.
   */
  async moveInto(partial: string): Promise<string | undefined> {
    const folder = join(partial, FOLDER);
    try {
      await rename(this.path, folder);
    } catch (error) {
      if (codeOf(error) === 'ENOENT') return undefined;
      throw error;
    }
    // Before others are made in their place.
    for (const file of await outsideFilesOf(folder)) await rm(file, { force: true });
    return folder;
  }

  /** Nobody goes on from it. */
  async remove(): Promise<void> {
    await removeWithOutside(this.path);
  }
}

/** What is left of it once its RAM has been taken. */
export const removeEarlier = removePartial;

/**
 * Makes a RAM file of an earlier try one of this: under `path`, with that length. False: there is none that could be used.
 * @throws Node's errors for what goes wrong with one that can
 */
export async function takeRam(earlier: string, file: string, path: string, length: bigint): Promise<boolean> {
  const from = join(earlier, file);
  const handle = await openRegular(from).catch(() => undefined);
  if (handle === undefined) return false;
  try {
    const { uid, nlink, mode } = await handle.stat();
    if (uid !== process.geteuid?.() || nlink !== 1 || (mode & 0o077) !== 0) return false;
  } finally {
    await handle.close();
  }
  await rename(from, path);
  await truncate(path, Number(length));
  return true;
}

async function changedAt(path: string): Promise<{ path: string; at: number } | undefined> {
  const folder = await lstat(path);
  if (!folder.isDirectory() || folder.uid !== process.geteuid?.() || (folder.mode & 0o022) !== 0)
    return undefined;
  const files = (await readdir(path)).filter((name) => RAM_FILE.test(name));
  if (files.length === 0) return undefined;
  const times = await Promise.all(
    files.map((name) =>
      stat(join(path, name)).then(
        ({ mtimeMs }) => mtimeMs,
        () => 0,
      ),
    ),
  );
  return { path, at: Math.max(...times) };
}
