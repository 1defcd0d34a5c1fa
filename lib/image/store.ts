import type { FileHandle } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { MigrationError } from '../errors.ts';
import { codeOf, imageError } from './errors.ts';
import { descriptorPath, MANIFEST_FILE, openRegular, readBounded } from './files.ts';
import { type Manifest, type ManifestBlock, parseManifest } from './manifest.ts';
import type { RamPaths } from './ram-store.ts';
import { checkTrusted } from './trust.ts';
import { openTrustedDirectory } from './trusted-path.ts';

const MAX_MANIFEST_BYTES = 16 << 20;

/** An image's directory, open: its files are named through the descriptor, so that it cannot be replaced meanwhile. */
export interface ImageDirectory {
  readonly path: string;
  readonly handle: FileHandle;
  readonly manifest: Manifest;
}

/**
 * Opens an image's directory and reads its manifest. The caller closes the handle.
 * @throws MigrationError IMAGE_NOT_FOUND, IMAGE_INVALID, IO_ERROR; PERMISSION_DENIED: also where directory or manifest are not this
 *   user's or root's, or others may write them.
 */
export async function openImageDirectory(path: string): Promise<ImageDirectory> {
  const image = resolve(path);
  const handle = await openTrustedDirectory(image).catch((error) => {
    throw notAnImage(error, image);
  });
  try {
    await checkTrusted(handle, image);
    const bytes = await readMember(handle, image, MANIFEST_FILE, MAX_MANIFEST_BYTES);
    const manifest = parseManifest(Buffer.from(bytes).toString(), join(image, MANIFEST_FILE));
    return { path: image, handle, manifest };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** Opens a file of the image for reading, and checks whose it is and that it is as long as the manifest says. */
export async function openMember(
  { path, handle }: Pick<ImageDirectory, 'path' | 'handle'>,
  file: string,
  length: bigint,
): Promise<FileHandle> {
  const shown = join(path, file);
  return openChecked(join(descriptorPath(handle), file), shown, (size) => size === length, length);
}

/**
 * Opens the file that holds a RAM block: inside the image, or where the caller says.
 * @throws MigrationError INVALID_ARGUMENT: the file is outside and the caller has not named it. A manifest alone opens nothing outside
 *   its directory: whoever wrote it would choose which of this user's files are sent.
 */
export async function openRamFile(
  image: ImageDirectory,
  block: ManifestBlock,
  named: RamPaths = {},
): Promise<FileHandle> {
  const path = Object.hasOwn(named, block.name) ? named[block.name] : undefined;
  if (path !== undefined) return openNamed(path, block.length);
  if (block.file === undefined) throw notNamed(image, block);
  return openMember(image, block.file, block.length);
}

async function openNamed(path: string, length: bigint): Promise<FileHandle> {
  const directory = await openTrustedDirectory(dirname(path)).catch((error) => {
    throw memberError(error, path);
  });
  try {
    const name = join(descriptorPath(directory), basename(path));
    return await openChecked(name, path, (size) => size >= length, length);
  } finally {
    await directory.close();
  }
}

async function openChecked(
  path: string,
  shown: string,
  fits: (size: bigint) => boolean,
  length: bigint,
): Promise<FileHandle> {
  const handle = await openRegular(path, shown).catch((error) => {
    throw memberError(error, shown);
  });
  try {
    await checkTrusted(handle, shown);
    const { size } = await handle.stat({ bigint: true });
    if (!fits(size)) throw wrongLength(shown, size, length);
    return handle;
  } catch (error) {
    await handle.close();
    throw imageError(error, `opening ${shown}`);
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
    await checkTrusted(member, shown);
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

function notNamed({ path }: ImageDirectory, { name, external }: ManifestBlock): MigrationError {
  const recorded = external?.path ?? '';
  const message =
    `the RAM block ${name} is outside the image ${path}, and no file outside an image is read unless you name it: give ` +
    `--ram-file ${name}=PATH (ramFiles). It was made in ${recorded}: see first that this is a file of that VM`;
  const details = { block: name, recorded };
  return new MigrationError('INVALID_ARGUMENT', 'image', message, { details });
}
