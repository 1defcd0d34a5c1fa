/** The FILE of `image to-qemu` and `image from-qemu`: a file, a FIFO or device, or `-`. */
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rm, stat } from 'node:fs/promises';
import { type Readable, Writable } from 'node:stream';
import { MigrationError, type Phase, toMigrationError } from '../errors.ts';

const PHASE: Phase = 'image';

/** Large reads: each is a round trip to a thread. */
const READ_BYTES = 1 << 20;

export function openInput(file: string): Readable {
  if (file === '-') return process.stdin;
  return createReadStream(file, { highWaterMark: READ_BYTES });
}

/**
 * Gives `write` the output. A file must be new, is durable afterwards, and goes again when `write` fails: part of a stream is no VM.
 * @throws MigrationError INVALID_ARGUMENT: the file exists
 */
export async function withOutputFile<T>(file: string, write: (output: Writable) => Promise<T>): Promise<T> {
  if (file === '-') return write(process.stdout);
  const { handle, isNew } = await openOutput(file);
  try {
    const result = await writeThrough(handle, write);
    if (isNew) await handle.sync();
    return result;
  } catch (error) {
    if (isNew) await rm(file, { force: true }).catch(() => undefined);
    throw toMigrationError(error, PHASE);
  } finally {
    await handle.close().catch(() => undefined);
  }
}

async function writeThrough<T>(handle: FileHandle, write: (output: Writable) => Promise<T>): Promise<T> {
  const output = new Writable({
    write: (chunk: Uint8Array, _encoding, done) => void handle.writeFile(chunk).then(() => done(), done),
  });
  const result = await write(output);
  await new Promise<void>((resolve, reject) => {
    output.once('error', reject);
    output.end(resolve);
  });
  return result;
}

async function openOutput(file: string): Promise<{ handle: FileHandle; isNew: boolean }> {
  try {
    return { handle: await open(file, 'wx', 0o600), isNew: true };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw cannotOpen(file, error);
  }
  try {
    if (!(await stat(file)).isFile()) return { handle: await open(file, 'w'), isNew: false };
  } catch (error) {
    throw cannotOpen(file, error);
  }
  throw new MigrationError(
    'INVALID_ARGUMENT',
    PHASE,
    `${file} exists and is not overwritten: remove it or name another file`,
  );
}

function cannotOpen(file: string, cause: unknown): MigrationError {
  const { code } = toMigrationError(cause, PHASE);
  const reason = cause instanceof Error ? cause.message : String(cause);
  // ENOENT is about a directory here, not about an image.
  const known = code === 'IMAGE_NOT_FOUND' ? 'INVALID_ARGUMENT' : code;
  return new MigrationError(known, PHASE, `${file} cannot be written: ${reason}`, { cause });
}
