/** The FILE of `image to-qemu` and `image from-qemu`: a file, a FIFO or device, or `-`. */
import { createReadStream } from 'node:fs';
import { type FileHandle, lstat, open, stat } from 'node:fs/promises';
import { type Readable, Writable } from 'node:stream';
import { MigrationError, type Phase, toMigrationError } from '../errors.ts';
import { fileExists, PartialFile } from '../image/partial-file.ts';
import { isFifo, readFifo, writeFifo } from './fifo.ts';

const PHASE: Phase = 'image';

/** Large reads: each is a round trip to a thread. */
const READ_BYTES = 1 << 20;

export interface OutputWait {
  readonly signal: AbortSignal;
  /** A FIFO has no reader yet. */
  readonly onWaiting: () => void;
}

type WriteTo<T> = (output: Writable) => Promise<T>;

/** undefined: no file, but something that does not tell how much comes out of it. */
export async function lengthOf(file: string): Promise<bigint | undefined> {
  const found = file === '-' ? undefined : await stat(file, { bigint: true }).catch(() => undefined);
  return found?.isFile() ? found.size : undefined;
}

/** What cannot be opened says so when it is read. */
export async function openInput(file: string): Promise<Readable> {
  if (file === '-') return process.stdin;
  if (await isFifo(file)) return readFifo(file);
  return createReadStream(file, { highWaterMark: READ_BYTES });
}

/**
 * Gives `write` the output. A file must be new, and gets its name when it is complete and durable: part of a stream is no VM.
 * A FIFO is waited for until it has a reader.
 * @throws MigrationError INVALID_ARGUMENT: the file exists; CANCELLED
 */
export async function withOutputFile<T>(file: string, wait: OutputWait, write: WriteTo<T>): Promise<T> {
  if (file === '-') return write(process.stdout);
  if (await isFifo(file)) return toFifo(file, wait, write);
  const { handle, partial } = await openOutput(file);
  try {
    const result = await writeThrough(writableOf(handle), write);
    await partial?.publish();
    return result;
  } catch (error) {
    throw toMigrationError(error, PHASE);
  } finally {
    // First: an open file that is removed stays on an NFS server.
    await handle.close().catch(() => undefined);
    await partial?.discard();
  }
}

async function toFifo<T>(file: string, { signal, onWaiting }: OutputWait, write: WriteTo<T>): Promise<T> {
  const output = await writeFifo(file, signal, onWaiting).catch((error: unknown) => {
    if (!signal.aborted) throw cannotOpen(file, error);
    const message = `waiting for a reader of ${file} was cancelled`;
    throw new MigrationError('CANCELLED', PHASE, message, { cause: signal.reason });
  });
  try {
    return await writeThrough(output, write);
  } catch (error) {
    throw toMigrationError(error, PHASE);
  } finally {
    output.destroy();
  }
}

function writableOf(handle: FileHandle): Writable {
  return new Writable({
    write: (chunk: Uint8Array, _encoding, done) => void handle.writeFile(chunk).then(() => done(), done),
  });
}

async function writeThrough<T>(output: Writable, write: WriteTo<T>): Promise<T> {
  const result = await write(output);
  await new Promise<void>((resolve, reject) => {
    output.once('error', reject);
    output.end(resolve);
  });
  return result;
}

/** `partial`: a new file. Without it a device or the like, which is there already. */
async function openOutput(file: string): Promise<{ handle: FileHandle; partial?: PartialFile }> {
  try {
    // lstat: a link that leads nowhere is something that exists, too.
    if (await lstat(file).catch(unlessMissing)) {
      if ((await stat(file)).isFile()) throw fileExists(file);
      return { handle: await open(file, 'w') };
    }
    const partial = await PartialFile.create(file);
    return { handle: partial.handle, partial };
  } catch (error) {
    throw error instanceof MigrationError ? error : cannotOpen(file, error);
  }
}

function unlessMissing(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENOENT') throw error;
}

function cannotOpen(file: string, cause: unknown): MigrationError {
  const { code } = toMigrationError(cause, PHASE);
  const reason = cause instanceof Error ? cause.message : String(cause);
  // ENOENT is about a directory here, not about an image.
  const known = code === 'IMAGE_NOT_FOUND' ? 'INVALID_ARGUMENT' : code;
  return new MigrationError(known, PHASE, `${file} cannot be written: ${reason}`, { cause });
}
