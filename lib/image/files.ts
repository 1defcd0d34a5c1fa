import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { MigrationError } from '../errors.ts';
import { codeOf } from './errors.ts';

/** Names inside an image. RAM files are numbered: block names such as `/rom@etc/acpi/tables` cannot be file names. */
export const MANIFEST_FILE = 'manifest.json';
/** Absent until the image is sent: sent-mark.ts. */
export const SENT_FILE = 'sent.json';
export const BEFORE_FILE = 'before.bin';
export const AFTER_FILE = 'after.bin';
export const ramFileName = (index: number): string => `ram-${index}.bin`;

/** A VM's memory holds its secrets: only the owner may read an image. */
export const DIRECTORY_MODE = 0o700;
export const FILE_MODE = 0o600;

/** The path of an open descriptor: it reaches the same inode even if something was renamed meanwhile. */
export const descriptorPath = (handle: FileHandle): string => `/proc/self/fd/${handle.fd}`;

/**
 * Opens a regular file for reading without following a symbolic link in its last component.
 * O_NONBLOCK: a FIFO of that name must not block us; it is refused below.
 * @throws MigrationError IMAGE_INVALID: a link or not a regular file. Node's error otherwise.
 */
export async function openRegular(path: string, shown = path): Promise<FileHandle> {
  const flags = constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK;
  const handle = await open(path, flags).catch((cause) => {
    if (codeOf(cause) !== 'ELOOP') throw cause;
    const message = `${shown} is a symbolic link: an image holds only plain files`;
    throw new MigrationError('IMAGE_INVALID', 'image', message, { cause });
  });
  try {
    if ((await handle.stat()).isFile()) return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
  await handle.close();
  throw new MigrationError('IMAGE_INVALID', 'image', `${shown} is not a regular file`);
}

/** Opens a directory, to name the files in it by {@link descriptorPath} and to fsync it. */
export function openDirectory(path: string): Promise<FileHandle> {
  return open(path, constants.O_RDONLY | constants.O_DIRECTORY);
}

/** Makes what was created, renamed or removed in a directory durable. */
export async function syncDirectory(path: string): Promise<void> {
  const handle = await openDirectory(path);
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** Creates a file that must not exist, for appending, with {@link FILE_MODE} whatever the umask is. */
export async function createFile(path: string): Promise<FileHandle> {
  const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW;
  const handle = await open(path, flags, FILE_MODE);
  try {
    await handle.chmod(FILE_MODE); // a umask may have taken the owner's rights too
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** write(2) may take less than it is given. */
export async function writeFully(handle: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length; ) {
    offset += (await handle.write(bytes, offset)).bytesWritten;
  }
}

/** Creates a file with that content and makes it durable. */
export async function createDurable(path: string, content: Uint8Array): Promise<void> {
  const handle = await createFile(path);
  try {
    await writeFully(handle, content);
    await handle.sync();
  } finally {
    await handle.close();
  }
}

/** The whole content of a file of at most `limit` bytes. */
export async function readBounded(handle: FileHandle, limit: number, shown: string): Promise<Uint8Array> {
  const { size } = await handle.stat();
  if (size > limit) {
    const message = `${shown} is ${size} bytes, at most ${limit} are expected`;
    throw new MigrationError('IMAGE_INVALID', 'image', message, { details: { size, limit } });
  }
  const bytes = Buffer.alloc(size);
  let length = 0;
  while (length < size) {
    const { bytesRead } = await handle.read(bytes, length, size - length, length);
    if (bytesRead === 0) break;
    length += bytesRead;
  }
  return bytes.subarray(0, length);
}
