import type { FileHandle } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { MigrationError } from '../errors.ts';
import { codeOf, imageError } from './errors.ts';
import { descriptorPath, MANIFEST_FILE, openDirectory, openRegular, readBounded } from './files.ts';
import { type Manifest, type ManifestBlock, parseManifest } from './manifest.ts';
import type { RamPaths } from './ram-store.ts';

const MAX_MANIFEST_BYTES = 16 << 20;

/** An image's directory, open: its files are named through the descriptor, so that it cannot be replaced meanwhile. */
export interface ImageDirectory {
  readonly path: string;
  readonly handle: FileHandle;
  readonly manifest: Manifest;
}

/**
 * Opens an image's directory and reads its manifest. The caller closes the handle.
 * @throws MigrationError IMAGE_NOT_FOUND, IMAGE_INVALID, PERMISSION_DENIED, IO_ERROR.
 */
export async function openImageDirectory(path: string): Promise<ImageDirectory> {
  const image = resolve(path);
  const handle = await openDirectory(image).catch((error) => {
    throw notAnImage(error, image);
  });
  try {
    const bytes = await readMember(handle, image, MANIFEST_FILE, MAX_MANIFEST_BYTES);
    const manifest = parseManifest(Buffer.from(bytes).toString(), join(image, MANIFEST_FILE));
    return { path: image, handle, manifest };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Opens a file of the image for reading, and checks that it is as long as the manifest says. */
export async function openMember(
  { path, handle }: Pick<ImageDirectory, 'path' | 'handle'>,
  file: string,
  length: bigint,
): Promise<FileHandle> {
  const shown = join(path, file);
  const member = await openRegular(join(descriptorPath(handle), file), shown).catch((error) => {
    throw memberError(error, shown);
  });
  try {
    const { size } = await member.stat({ bigint: true });
    if (size !== length) throw wrongLength(shown, size, length);
    return member;
  } catch (error) {
    await member.close();
    throw imageError(error, `opening ${shown}`);
  }
}

/** Opens the file that holds a RAM block, inside the image or where the manifest or the caller says. */
export async function openRamFile(
  image: ImageDirectory,
  block: ManifestBlock,
  named: RamPaths = {},
): Promise<FileHandle> {
  if (Object.hasOwn(named, block.name)) return openExternal(block, named[block.name] ?? '', undefined);
  const { file, external } = block;
  if (external !== undefined) return openExternal(block, external.path, external.inode);
  return openMember(image, file ?? '', block.length);
}

async function openExternal(
  block: ManifestBlock,
  path: string,
  inode: bigint | undefined,
): Promise<FileHandle> {
  const handle = await openRegular(path).catch((error) => {
    throw memberError(error, path);
  });
  try {
    const { size, ino } = await handle.stat({ bigint: true });
    if (inode !== undefined && ino !== inode) throw replaced(block, path);
    if (size < block.length) throw wrongLength(path, size, block.length);
    return handle;
  } catch (error) {
    await handle.close();
    throw imageError(error, `opening ${path}`);
  }
}

async function readMember(
  handle: FileHandle,
  image: string,
  file: string,
  limit: number,
): Promise<Uint8Array> {
  const shown = join(image, file);
  const member = await openRegular(join(descriptorPath(handle), file), shown).catch((error) => {
    if (codeOf(error) !== 'ENOENT') throw imageError(error, `opening ${shown}`);
    const message = `${image} has no ${file}: it is not a VM image, or its receiver did not complete it`;
    throw new MigrationError('IMAGE_INVALID', 'image', message, { cause: error });
  });
  try {
    return await readBounded(member, limit, shown);
  } catch (error) {
    throw imageError(error, `reading ${shown}`);
  } finally {
    await member.close();
  }
}

function notAnImage(error: unknown, path: string): MigrationError {
  const code = codeOf(error);
  if (code === 'ENOENT') {
    return new MigrationError('IMAGE_NOT_FOUND', 'image', `there is no image ${path}`, { cause: error });
  }
  if (code === 'ENOTDIR') {
    const message = `${path} is not a directory: an image is one`;
    return new MigrationError('IMAGE_INVALID', 'image', message, { cause: error });
  }
  return imageError(error, `opening the image ${path}`);
}

function memberError(error: unknown, shown: string): MigrationError {
  if (codeOf(error) !== 'ENOENT') return imageError(error, `opening ${shown}`);
  const message = `${shown}, which the manifest names, does not exist: the image is damaged or its RAM file was removed`;
  return new MigrationError('IMAGE_INVALID', 'image', message, { cause: error });
}

function wrongLength(shown: string, size: bigint, length: bigint): MigrationError {
  const message = `${shown} is ${size} bytes, the manifest says ${length}: the image is damaged`;
  return new MigrationError('IMAGE_INVALID', 'image', message, { details: { size, length } });
}

function replaced({ name }: ManifestBlock, path: string): MigrationError {
  const message =
    `${path} is not the file that was recorded for the RAM block ${name}: it was replaced. If it does hold that ` +
    'RAM, name it in ramFiles';
  return new MigrationError('IMAGE_INVALID', 'image', message, { details: { block: name } });
}
