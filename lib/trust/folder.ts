/** The files of a credentials folder. */
import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { join } from 'node:path';
import { MigrationError } from '../errors.ts';
import type { Pair, TlsRole } from './credentials.ts';
import { badCredentials } from './invalid.ts';

/**
 * A chain of certificates is some kilobytes, a CRL of five thousand revoked ones 240 KiB. They are read anew for each handshake, which strangers begin too:
 * these cost a destination six milliseconds each time.
 */
export const MOST_PEM_BYTES = 256 << 10;
/** As many keys as may be, of the longest. Nobody reads them again. */
const MOST_KEYS_BYTES = 2 << 20;

export const CA_FILE = 'ca-cert.pem';
export const CRL_FILE = 'ca-crl.pem';
export const PSK_FILE = 'keys.psk';
export const certFile = (role: TlsRole): string => `${role}-cert.pem`;
export const keyFile = (role: TlsRole): string => `${role}-key.pem`;

/** A file as it was read; the mode is that of what was read. */
export interface ReadFile {
  readonly path: string;
  readonly text: string;
  /** Permission bits. */
  readonly mode: number;
}

/** What a folder holds, unchecked. */
export type FolderFiles =
  | { readonly kind: 'psk'; readonly keys: ReadFile }
  | {
      readonly kind: 'x509';
      readonly ca: ReadFile;
      readonly crl?: ReadFile;
      /** Of each role of which at least one file is there; the other may be missing. */
      readonly pairs: Readonly<Record<TlsRole, Partial<Record<keyof Pair, ReadFile>>>>;
    };

/** @throws MigrationError CREDENTIALS_INVALID, PERMISSION_DENIED; roles that are not asked for are not read */
export async function readFolder(folder: string, roles: readonly TlsRole[]): Promise<FolderFiles> {
  const [keys, ca, crl] = await Promise.all([
    readIfThere(join(folder, PSK_FILE), MOST_KEYS_BYTES),
    readIfThere(join(folder, CA_FILE)),
    readIfThere(join(folder, CRL_FILE)),
  ]);
  if (keys && ca)
    throw badCredentials(
      `${folder} has ${PSK_FILE} and ${CA_FILE}: it is not known which counts. Keep them in two folders`,
    );
  if (keys) return { kind: 'psk', keys };
  if (!ca) throw badCredentials(`${folder} has neither ${CA_FILE} nor ${PSK_FILE}`);
  const pair = (role: TlsRole) => (roles.includes(role) ? readPair(folder, role) : {});
  const pairs = { client: await pair('client'), server: await pair('server') };
  return { kind: 'x509', ca, pairs, ...(crl && { crl }) };
}

async function readPair(folder: string, role: TlsRole): Promise<Partial<Record<keyof Pair, ReadFile>>> {
  const cert = await readIfThere(join(folder, certFile(role)));
  const key = await readIfThere(join(folder, keyFile(role)));
  return { ...(cert && { cert }), ...(key && { key }) };
}

/** undefined: there is none. Never waits, as for a FIFO. */
async function readIfThere(path: string, most = MOST_PEM_BYTES): Promise<ReadFile | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw unreadable(path, error);
  }
  try {
    const stat = await file.stat();
    if (!stat.isFile()) throw badCredentials(`${path} is not a file`);
    if (stat.size > most) throw tooLarge(path, most);
    return { path, text: await readWhole(file, path, most), mode: stat.mode & 0o7777 };
  } catch (error) {
    throw unreadable(path, error);
  } finally {
    await file.close();
  }
}

/** Bounded also where the file grows meanwhile. */
async function readWhole(file: FileHandle, path: string, most: number): Promise<string> {
  const chunks: Buffer[] = [];
  let length = 0;
  for await (const chunk of file.createReadStream({ autoClose: false, end: most })) {
    chunks.push(chunk as Buffer);
    length += (chunk as Buffer).length;
  }
  if (length > most) throw tooLarge(path, most);
  return Buffer.concat(chunks).toString('utf8');
}

/** @param what a file, or what stands for one */
export const tooLarge = (what: string, most: number): MigrationError =>
  badCredentials(
    `${what} has more than ${most / 1024} KiB, which is the most that is read. With a list of revoked certificates that long, have an authority for ` +
      'migrations alone',
  );

function unreadable(path: string, error: unknown): MigrationError {
  if (error instanceof MigrationError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code !== 'EACCES' && code !== 'EPERM')
    return badCredentials(`${path} cannot be read: ${message}`, error);
  return new MigrationError(
    'PERMISSION_DENIED',
    'configure',
    `${path} may not be read by this process: run it as the user that the credentials belong to, or change owner and mode`,
    { cause: error },
  );
}
