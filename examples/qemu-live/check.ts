/** What is checked of the guest after a migration, whichever QEMU it then runs in. */
import { type FileHandle, open } from 'node:fs/promises';
import { MigrationError } from 'rdma-migrate';
import { PAGE_SIZE, REGION_BASE, STATE_ADDRESS } from '../guest/layout.ts';
import { type GuestState, readGuestState, verifyGuestRam } from '../guest/verify.ts';
import { parsePasses } from '../qemu/qemu.ts';
import type { Vm } from './vm.ts';

const ROUND_TIMEOUT_MS = 60_000;
const CHUNK = 1 << 20;

/** Where the guest of a VM is, running or not. */
export async function readState(ramFile: string): Promise<GuestState> {
  const file = await open(ramFile, 'r');
  try {
    return await readGuestState(file);
  } finally {
    await file.close();
  }
}

/** Waits until the guest has completed its first pass. */
export async function waitForGuest(vm: Vm): Promise<void> {
  await vm.waitUntil(
    'the guest to write all of its memory',
    async () => {
      const state = await readState(vm.ramFile).catch(() => undefined);
      return state !== undefined && state.pass > 0n;
    },
    ROUND_TIMEOUT_MS,
  );
}

/**
 * Lets the guest run until it has come back to each of its pages, and checked that it holds what it had left there; then stops it, checks
 * every page from outside, and lets it go on.
 * @throws MigrationError IMAGE_INVALID for a page that is lost, stale or torn; TIMEOUT for a guest that does not run
 */
export async function checkRunningGuest(vm: Vm): Promise<GuestState> {
  const { steps, pages } = await readState(vm.ramFile);
  await vm.waitUntil(
    'the guest to come back to all of its pages',
    async () => (await readState(vm.ramFile)).steps >= steps + BigInt(2 * pages),
    ROUND_TIMEOUT_MS,
  );
  await vm.execute('stop');
  try {
    return await verifyGuestRam(vm.ramFile);
  } finally {
    await vm.execute('cont');
  }
}

/**
 * Compares the RAM that the guest does not write. The source's is unchanged since the guest was stopped there.
 * @throws MigrationError IMAGE_INVALID
 */
export async function requireSameRest(from: Vm, to: Vm, ramBytes: number): Promise<void> {
  const bytes = ramBytes / from.ramFiles.length;
  await requireSameNode(from.ramFile, to.ramFile, bytes);
  for (const [node, path] of from.ramFiles.entries()) {
    if (node > 0) await requireSameRanges(path, to.ramFiles[node] as string, [[0, bytes]]);
  }
}

async function requireSameNode(left: string, right: string, ramBytes: number): Promise<void> {
  const { pages } = await readState(right);
  const ranges = [
    [0, STATE_ADDRESS],
    [STATE_ADDRESS + PAGE_SIZE, REGION_BASE],
    [REGION_BASE + pages * PAGE_SIZE, ramBytes],
  ] as const;
  await requireSameRanges(left, right, ranges);
}

async function requireSameRanges(
  left: string,
  right: string,
  ranges: readonly (readonly [number, number])[],
): Promise<void> {
  const [a, b] = [await open(left, 'r'), await open(right, 'r')];
  try {
    for (const [from, to] of ranges) await requireSame(a, b, from, to);
  } finally {
    await Promise.all([a.close(), b.close()]);
  }
}

async function requireSame(a: FileHandle, b: FileHandle, from: number, to: number): Promise<void> {
  for (let at = from; at < to; at += CHUNK) {
    const length = Math.min(CHUNK, to - at);
    const [left, right] = [Buffer.alloc(length), Buffer.alloc(length)];
    await Promise.all([a.read(left, 0, length, at), b.read(right, 0, length, at)]);
    if (left.equals(right)) continue;
    const address = at + left.findIndex((byte, index) => byte !== right[index]);
    const message = `RAM that the guest does not write differs between source and destination from address 0x${address.toString(16)} on`;
    throw new MigrationError('IMAGE_INVALID', 'image', message, { details: { address } });
  }
}

/**
 * The serial ports of all QEMUs, one after the other, must be one count with equal gaps: no line lost, printed twice, or torn.
 * @returns how many lines there are
 */
export function requireOneCount(serials: readonly string[]): number {
  const passes = parsePasses(serials.join(''));
  const gaps = new Set(passes.slice(1).map((pass, index) => pass - (passes[index] ?? 0n)));
  if (gaps.size <= 1) return passes.length;
  const message = `the passes on the serial ports are no count: gaps of ${[...gaps].join(', ')}`;
  throw new MigrationError('IMAGE_INVALID', 'image', message);
}
