/** The files that an unfinished image has outside its partial directory: recorded in it, so that a clean-up finds them. */
import { lstat, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { createDurable, openRegular, readBounded } from './files.ts';

export const OUTSIDE_FILE = 'outside.json';
const MAX_BYTES = 32 << 20;

const decimal = z.string().regex(/^(0|[1-9][0-9]{0,19})$/);
/** `born` in nanoseconds: inode numbers are reused, after a reboot even in the same order. */
const fileSchema = z.strictObject({
  path: z.string().startsWith('/').max(4096),
  device: decimal,
  inode: decimal,
  born: decimal,
});
type OutsideFile = z.output<typeof fileSchema>;
const listSchema = z.array(fileSchema).max(4096);

/** Replaces what is recorded in `partial`. Each path must exist. */
export async function recordOutsideFiles(partial: string, paths: readonly string[]): Promise<void> {
  const files = await Promise.all(paths.map(describe));
  const record = join(partial, OUTSIDE_FILE);
  await rm(record, { force: true });
  await createDurable(record, Buffer.from(JSON.stringify(files)));
}

/** The recorded files that are still the ones created, and belong to this user. Empty if that cannot be determined. */
export async function outsideFilesOf(partial: string): Promise<string[]> {
  const recorded = await read(partial).catch(() => []);
  const same = await Promise.all(recorded.map((file) => isStill(file).catch(() => false)));
  return recorded.filter((_, index) => same[index]).map(({ path }) => path);
}

async function read(partial: string): Promise<readonly OutsideFile[]> {
  const handle = await openRegular(join(partial, OUTSIDE_FILE));
  try {
    return listSchema.parse(
      JSON.parse(Buffer.from(await readBounded(handle, MAX_BYTES, partial)).toString()),
    );
  } finally {
    await handle.close();
  }
}

async function describe(path: string): Promise<OutsideFile> {
  const { dev, ino, birthtimeNs } = await lstat(path, { bigint: true });
  return { path, device: `${dev}`, inode: `${ino}`, born: `${birthtimeNs}` };
}

async function isStill(file: OutsideFile): Promise<boolean> {
  const stats = await lstat(file.path, { bigint: true });
  if (!stats.isFile() || stats.uid !== BigInt(process.geteuid?.() ?? -1)) return false;
  const { device, inode, born } = await describe(file.path);
  // 0: this file system does not record when a file was created, and nothing else distinguishes it from a later one.
  return born !== '0' && device === file.device && inode === file.inode && born === file.born;
}
