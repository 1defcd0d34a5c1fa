/** A token that outlives a command: for whoever asks again and again, such as Prometheus. */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { MigrationError } from '../errors.ts';

const MOST_BYTES = 256;
/** Anything shorter can be guessed. */
const TOKEN = /^[A-Za-z0-9_-]{24,128}$/;

/**
 * The token that a file holds: 24 to 128 of A-Z, a-z, 0-9, - and _, alone in it.
 * @throws MigrationError INVALID_ARGUMENT: it cannot be read, or holds something else; PERMISSION_DENIED: it belongs to another user, or others than its
 *   owner may read it
 */
export async function readToken(path: string): Promise<string> {
  // Nobody waits for the writer of a FIFO.
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch((error: Error) => {
    throw wrong(`the token cannot be read: ${error.message}`);
  });
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw wrong(`expected a file with a token but ${path} is none`);
    // Whoever owns it knows the token, and could put another one there.
    if (stat.uid !== 0 && stat.uid !== process.geteuid?.())
      throw denied(`the token in ${path} is that of another user: chown it`);
    if ((stat.mode & 0o077) !== 0) throw denied(`others may read the token in ${path}: chmod 600 it`);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MOST_BYTES), 0, MOST_BYTES, 0);
    const token = buffer.toString('latin1', 0, bytesRead).trim();
    if (TOKEN.test(token)) return token;
    throw wrong(
      `expected 24 to 128 of A-Z, a-z, 0-9, - and _ in ${path}: openssl rand -hex 24 makes a token`,
    );
  } finally {
    await file.close();
  }
}

const wrong = (message: string): MigrationError =>
  new MigrationError('INVALID_ARGUMENT', 'configure', message);

const denied = (message: string): MigrationError =>
  new MigrationError('PERMISSION_DENIED', 'configure', message);
