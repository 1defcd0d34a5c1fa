/** What unfinished receives and conversions left in a folder, for any name. */
import { lstat, readdir } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { MigrationError } from '../errors.ts';
import { codeOf, during, imageError } from './errors.ts';
import { outsideFilesOf } from './outside-files.ts';
import { examinePartial, nameOfPartial, type PartialImage, removeWithOutside } from './partial.ts';

export interface Leftover extends PartialImage {
  /** The intended path of the image or file. */
  readonly image: string;
  /** Bytes that it takes on disks. */
  readonly bytes: bigint;
  /** When something was last written to it, as far as that can be determined. */
  readonly modified: Date;
  /** Its files elsewhere (`ramFiles`), which are removed with it. */
  readonly outside: readonly string[];
}

/**
 * All partial directories in `folder`, including those of living processes, sorted by path.
 * @throws MigrationError INVALID_ARGUMENT: there is no such folder. PERMISSION_DENIED, IO_ERROR.
 */
export async function findLeftovers(folder: string): Promise<Leftover[]> {
  const at = resolve(folder);
  const names = await readdir(at).catch((error: unknown) => {
    throw noFolder(error, at);
  });
  const found: Leftover[] = [];
  for (const name of names.toSorted()) {
    const leftover = await describe(at, name);
    if (leftover) found.push(leftover);
  }
  return found;
}

/**
 * Removes it if its process is certainly dead and it belongs to this user. false: otherwise; it stays.
 * @throws MigrationError PERMISSION_DENIED, IO_ERROR.
 */
export async function removeLeftover({ path }: Leftover): Promise<boolean> {
  if ((await examinePartial(path)).owner !== 'dead') return false;
  await during(`removing ${path}`, () => removeWithOutside(path));
  return true;
}

async function describe(folder: string, name: string): Promise<Leftover | undefined> {
  const wanted = nameOfPartial(name);
  const path = join(folder, name);
  const stats = wanted === undefined ? undefined : await lstat(path).catch(() => undefined);
  if (wanted === undefined || !stats?.isDirectory()) return undefined;
  const partial = await examinePartial(path);
  // What belongs to others is neither trusted nor read.
  const outside = partial.owner === 'unknown' ? [] : await outsideFilesOf(path);
  const inside = await readdir(path).catch(() => []);
  const files = [...inside.map((file) => join(path, file)), ...outside];
  const all = (await Promise.all(files.map((file) => lstat(file).catch(() => undefined)))).filter(
    (file) => file !== undefined,
  );
  const modified = new Date(Math.max(stats.mtimeMs, ...all.map(({ mtimeMs }) => mtimeMs)));
  const bytes = all.reduce((sum, { blocks }) => sum + BigInt(blocks) * 512n, 0n);
  return { ...partial, image: join(folder, wanted), bytes, modified, outside };
}

function noFolder(error: unknown, folder: string): MigrationError {
  const problem = { ENOENT: 'there is no folder', ENOTDIR: 'this is no folder:' }[codeOf(error) ?? ''];
  if (problem === undefined) return imageError(error, `looking into ${folder}`);
  return new MigrationError('INVALID_ARGUMENT', 'image', `${problem} ${folder}`, { cause: error });
}
