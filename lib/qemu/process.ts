/** The process of a QEMU, as Linux shows it. */
import { readdir, readFile, readlink, stat } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { MigrationError } from '../errors.ts';
import { native } from '../native/index.ts';

/** A row of /proc/PID/maps. Addresses and offset in bytes. */
export interface MappedRange {
  readonly from: bigint;
  readonly to: bigint;
  /** Whoever maps the same file sees what is written. */
  readonly shared: boolean;
  readonly offset: bigint;
  /** Of the file; 0: none. */
  readonly inode: bigint;
  readonly path: string;
}

/**
 * Who listens at the other end of a unix socket.
 * @throws MigrationError IO_ERROR: it cannot be told
 */
export function peerProcess(socket: Socket): number {
  const { fd } = (socket as Socket & { readonly _handle?: { readonly fd?: number } })._handle ?? {};
  if (fd === undefined || fd < 0)
    throw new MigrationError('IO_ERROR', 'configure', 'the process behind a closed socket cannot be told');
  return native.peerProcess(fd);
}

const MAPS_ROW =
  /^([0-9a-f]{1,16})-([0-9a-f]{1,16}) [r-][w-][x-]([ps]) ([0-9a-f]{1,16}) \S+ (\d{1,20})\s*(.*)$/;

/** Rows that cannot be read are left out: what is not found is refused later. */
export function parseMaps(text: string): MappedRange[] {
  return text.split('\n').flatMap((row) => {
    const [, from, to, shared, offset, inode, path = ''] = MAPS_ROW.exec(row) ?? [];
    if (from === undefined) return [];
    return [
      {
        from: BigInt(`0x${from}`),
        to: BigInt(`0x${to}`),
        shared: shared === 's',
        offset: BigInt(`0x${offset}`),
        inode: BigInt(inode as string),
        path,
      },
    ];
  });
}

/** @throws MigrationError PERMISSION_DENIED, GUEST_ERROR: it has ended */
export async function mapsOf(pid: number): Promise<MappedRange[]> {
  return parseMaps(await readFile(`/proc/${pid}/maps`, 'utf8').catch((cause) => refuse(pid, cause)));
}

/**
 * A path by which the file of a mapping can be opened, whatever its name is now: one of the process's own descriptors.
 * @returns undefined: it has none open
 * @throws as {@link mapsOf}
 */
export async function openFileOf(
  pid: number,
  { inode, path: name }: MappedRange,
  length: bigint,
): Promise<string | undefined> {
  const folder = `/proc/${pid}/fd`;
  const descriptors = await readdir(folder).catch((cause) => refuse(pid, cause));
  for (const descriptor of descriptors) {
    const path = `${folder}/${descriptor}`;
    const found = await stat(path, { bigint: true }).catch(() => undefined);
    if (!found?.isFile() || found.ino !== inode || found.size < length) continue;
    // Inode numbers repeat from one file system to the next, and a disk is no RAM: the kernel names a file the same way in both places.
    if ((await readlink(path).catch(() => undefined)) === name) return path;
  }
  return undefined;
}

/** Processes besides these that have the same file mapped, as far as they can be seen. */
export async function othersThatMap(pid: number, { inode, path }: MappedRange): Promise<number[]> {
  const others = (await readdir('/proc')).filter((name) => /^\d+$/.test(name)).map(Number);
  const found: number[] = [];
  for (const other of others) {
    if (other === pid || other === process.pid) continue;
    const maps = await readFile(`/proc/${other}/maps`, 'utf8').catch(() => '');
    if (
      maps.includes(` ${inode} `) &&
      parseMaps(maps).some((row) => row.inode === inode && row.path === path)
    )
      found.push(other);
  }
  return found;
}

/**
 * As whom it makes and opens files: its effective ids, of /proc/PID/status. The owner of /proc/PID is root for a process that has changed its user.
 * @throws MigrationError GUEST_ERROR: it has ended
 */
export async function userOf(pid: number): Promise<{ uid: number; gid: number }> {
  const text = await readFile(`/proc/${pid}/status`, 'latin1').catch((cause) =>
    refuse(pid, cause, `cannot see who runs process ${pid}`),
  );
  const effective = (name: string): number =>
    Number(new RegExp(`^${name}:\\s+\\d+\\s+(\\d+)`, 'm').exec(text)?.[1]);
  return { uid: effective('Uid'), gid: effective('Gid') };
}

/** Its executable's name, for messages. */
export async function nameOf(pid: number): Promise<string> {
  const path = await readlink(`/proc/${pid}/exe`).catch(() => '?');
  return path.slice(path.lastIndexOf('/') + 1);
}

function refuse(
  pid: number,
  cause: NodeJS.ErrnoException,
  what = `cannot look at the memory of process ${pid}`,
): never {
  const { code } = cause;
  if (code === 'ENOENT' || code === 'ESRCH')
    throw new MigrationError('GUEST_ERROR', 'configure', `process ${pid} has ended`, { cause });
  const message = `${what}: ${cause.message}. Run this as the user that runs QEMU`;
  throw new MigrationError('PERMISSION_DENIED', 'configure', message, { cause, details: { pid } });
}
