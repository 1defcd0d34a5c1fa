/**
 * Both ends of a FIFO without a thread that blocks. An open that waits for the other end, or a read or write that waits for bytes or
 * room, cannot be taken back; what the event loop waits for can.
 */
import { constants, open as openCallback } from 'node:fs';
import { stat } from 'node:fs/promises';
import { Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';

/** A descriptor of our own: a FileHandle would keep it. */
const open = promisify(openCallback);

/** Nothing tells when a reader opens a FIFO. */
const READER_POLL_MS = 50;

/** false: something else, or nothing is there. */
export async function isFifo(file: string): Promise<boolean> {
  return stat(file).then(
    (found) => found.isFIFO(),
    () => false,
  );
}

/** Is open at once; it ends when there has been a writer and the last one is gone. */
export async function readFifo(file: string): Promise<Socket> {
  const fd = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  return new Socket({ fd, readable: true, writable: false });
}

/**
 * Is open as soon as there is a reader. `onWaiting`: there is none yet; once.
 * @throws Node's errors; AbortError
 */
export async function writeFifo(file: string, signal: AbortSignal, onWaiting: () => void): Promise<Socket> {
  for (let told = false; ; told = true) {
    const fd = await open(file, constants.O_WRONLY | constants.O_NONBLOCK).catch(unlessNoReader);
    if (fd !== undefined) return new Socket({ fd, readable: false, writable: true });
    if (!told) onWaiting();
    await delay(READER_POLL_MS, undefined, { signal });
  }
}

function unlessNoReader(error: NodeJS.ErrnoException): undefined {
  if (error.code !== 'ENXIO') throw error;
}
