import { stat, statfs } from 'node:fs/promises';
import { MigrationError } from '../errors.ts';
import { kilobytesOf, type ReadText, readText } from '../ram/proc.ts';
import { during } from './errors.ts';
import { MAX_RAM_BYTES } from './manifest.ts';
import { STREAM_PAGE_SIZE } from './page-size.ts';

const TMPFS_MAGIC = 0x01021994n;
/** Record header and fill byte of a zero page, and how much more a page of data takes. */
const ZERO_PAGE_BYTES = 9n;
const PAGE_OF_DATA_BYTES = 4095n;

/** Where part of a VM's RAM is to go: its files are created in this directory. */
export interface RamShare {
  readonly directory: string;
  readonly ramBytes: bigint;
}

/** Free bytes that the process may use, and whether they are memory. */
export interface FreeSpace {
  /** Distinguishes file systems. */
  readonly device: bigint;
  /** undefined: some virtual file systems report no size. */
  readonly free: bigint | undefined;
  readonly isMemory: boolean;
}

/**
 * Refuses RAM that a process cannot map, and content that does not fit on the file systems. RAM files are sparse and take only what is
 * written to them, so their length says nothing.
 * @param content the most that is written, in bytes. undefined: not known
 * @throws MigrationError DISK_FULL with `needed` and `free`, OUT_OF_MEMORY with `needed` and `limit`, in bytes.
 */
export async function checkRamFits(
  shares: readonly RamShare[],
  content: bigint | undefined,
  freeAt: (directory: string) => Promise<FreeSpace> = freeSpace,
): Promise<void> {
  const ramBytes = shares.reduce((sum, share) => sum + share.ramBytes, 0n);
  if (ramBytes > MAX_RAM_BYTES) throw cannotMap(ramBytes);
  if (content === undefined) return;
  // How much each block has is not known: each may be as full as it and its file system allow.
  const ramOn = new Map<bigint, bigint>();
  const freeOn = new Map<bigint, FreeSpace>();
  for (const { directory, ramBytes } of shares) {
    const found = await freeAt(directory);
    freeOn.set(found.device, found);
    ramOn.set(found.device, (ramOn.get(found.device) ?? 0n) + ramBytes);
  }
  const room = [...ramOn].reduce(
    (sum, [device, ram]) => sum + least(ram, freeOn.get(device)?.free ?? ram),
    0n,
  );
  const needed = least(content, ramBytes);
  if (needed > room) {
    const inMemory = [...freeOn.values()].every(({ isMemory }) => isMemory);
    throw noRoom(needed, room, shares, inMemory);
  }
}

/**
 * The most that a plain QEMU stream of this length writes into RAM, if it gives each page once: a page of data takes 4096 bytes in it and
 * one of zeros 9.
 */
export function contentOfStream(streamBytes: bigint, ramBytes: bigint): bigint {
  const pageSize = BigInt(STREAM_PAGE_SIZE);
  const data = streamBytes - (ramBytes / pageSize) * ZERO_PAGE_BYTES;
  return data <= 0n ? 0n : (data / PAGE_OF_DATA_BYTES) * pageSize;
}

/** What this process may still write in a directory. On a tmpfs that is memory, which may run short before the file system is full. */
export async function freeSpace(directory: string, read: ReadText = readText): Promise<FreeSpace> {
  return during(`asking for the free space of ${directory}`, async () => {
    const [{ dev }, system] = await Promise.all([
      stat(directory, { bigint: true }),
      statfs(directory, { bigint: true }),
    ]);
    const { type, blocks, bsize, bfree, bavail } = system;
    // Some blocks are reserved for root.
    const free = blocks === 0n ? undefined : (process.geteuid?.() === 0 ? bfree : bavail) * bsize;
    const isMemory = type === TMPFS_MAGIC;
    return { device: dev, isMemory, free: isMemory ? leastKnown(free, availableMemory(read)) : free };
  });
}

/** What tmpfs can still take: memory available without, and with, swapping. */
function availableMemory(read: ReadText): bigint | undefined {
  const meminfo = read('/proc/meminfo');
  const available = kilobytesOf(meminfo, 'MemAvailable');
  return available === undefined ? undefined : available + (kilobytesOf(meminfo, 'SwapFree') ?? 0n);
}

const least = (left: bigint, right: bigint): bigint => (left < right ? left : right);

function leastKnown(left: bigint | undefined, right: bigint | undefined): bigint | undefined {
  return left === undefined || right === undefined ? (left ?? right) : least(left, right);
}

function cannotMap(needed: bigint): MigrationError {
  return new MigrationError(
    'OUT_OF_MEMORY',
    'image',
    `the VM has ${needed} bytes of RAM, a process can map ${MAX_RAM_BYTES}: receive it on a host with larger addresses`,
    { details: { needed, limit: MAX_RAM_BYTES } },
  );
}

function noRoom(
  needed: bigint,
  free: bigint,
  shares: readonly RamShare[],
  inMemory: boolean,
): MigrationError {
  const where = [...new Set(shares.map(({ directory }) => directory))].join(' and ');
  const message =
    `the stream brings up to ${needed} bytes of RAM that are not zero, and ${where} can take ${free}${inMemory ? ' (it is in memory)' : ''}: ` +
    'free space there or name another directory. If the guest ran while the stream was written, pages may be in it twice and less is needed: a ' +
    'pipe (cat FILE | rdma-migrate image from-qemu - DIR) is not asked for its length';
  return new MigrationError('DISK_FULL', 'image', message, { details: { needed, free } });
}
