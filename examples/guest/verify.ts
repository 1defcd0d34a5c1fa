import { type FileHandle, open } from 'node:fs/promises';
import { MigrationError } from 'rdma-migrate';
import {
  PAGE_SIZE,
  REGION_BASE,
  REGION_END_LIMIT,
  STATE_ADDRESS,
  STATE_BYTES,
  STATE_MAGIC,
} from './layout.ts';

/** Where the guest was when it was stopped. */
export interface GuestState {
  /** Page writes that the guest has completed since its start: `pass * pages + cursor`. Never falls, whatever host it runs on. */
  readonly steps: bigint;
  /** The pass under way, from 0. */
  readonly pass: bigint;
  /** The page of the region that is being written, from 0. Those before it hold this pass, those after it the one before. */
  readonly cursor: number;
  /** Pages in the region. */
  readonly pages: number;
  /** Pages that the guest itself found other than it had left them, and the first of them. */
  readonly bad: number;
  readonly badPage: number;
}

/** A page holds nine u64 words: eight that start its 512-byte sectors, and its last. */
const SECTOR = 512;
const WORDS = 9;
const READ_PAGES = 256;
const U64_MAX = (1n << 64n) - 1n;

function invalid(message: string, details: Record<string, number | bigint> = {}): MigrationError {
  return new MigrationError('IMAGE_INVALID', 'image', message, { details });
}

async function readFully(file: FileHandle, buffer: Buffer, position: number): Promise<void> {
  for (let done = 0; done < buffer.length; ) {
    const { bytesRead } = await file.read(buffer, done, buffer.length - done, position + done);
    if (bytesRead === 0) {
      throw invalid(
        `the RAM file ends at ${position + done} bytes, inside the guest's memory: it was cut off`,
      );
    }
    done += bytesRead;
  }
}

/**
 * Reads from the RAM file of a VM, which may be running, where the guest is.
 *
 * @throws MigrationError `IMAGE_INVALID` when this is not the RAM of a VM that runs the guest.
 */
export async function readGuestState(file: FileHandle): Promise<GuestState> {
  const state = Buffer.alloc(STATE_BYTES);
  await readFully(file, state, STATE_ADDRESS);
  if (state.toString('latin1', 0, 8) !== STATE_MAGIC) {
    throw invalid(
      `no guest of examples/guest in this RAM file: nothing is known at address ${STATE_ADDRESS}`,
    );
  }
  const steps = state.readBigUInt64LE(8);
  const base = state.readUInt32LE(16);
  const pages = state.readUInt32LE(20);
  if (base !== REGION_BASE || pages === 0 || pages > (REGION_END_LIMIT - REGION_BASE) / PAGE_SIZE) {
    throw invalid(`the guest's state is damaged: ${pages} pages from address ${base}`, { base, pages });
  }
  return {
    steps,
    pass: steps / BigInt(pages),
    cursor: Number(steps % BigInt(pages)),
    pages,
    bad: state.readUInt32LE(32),
    badPage: state.readUInt32LE(36),
  };
}

function foundByGuest({ bad, badPage, pages }: GuestState): MigrationError {
  const address = REGION_BASE + badPage * PAGE_SIZE;
  return invalid(
    `page ${badPage} of ${pages} (guest address 0x${address.toString(16)}) was lost, stale or torn when the guest came back to it; ` +
      `pages like that: ${bad}`,
    { page: badPage, address, bad },
  );
}

/** The k-th word of a page that was written in `step`. */
function word(step: bigint, k: number): bigint {
  return k < WORDS - 1 ? 8n * step + BigInt(k) : U64_MAX - (8n * step + 7n);
}

function wordOffset(k: number): number {
  return k < WORDS - 1 ? k * SECTOR : PAGE_SIZE - 8;
}

/** Index of the first word that is not what `step` wrote, or -1. */
function firstOther(page: Buffer, step: bigint): number {
  for (let k = 0; k < WORDS; k++) {
    if (page.readBigUInt64LE(wordOffset(k)) !== word(step, k)) return k;
  }
  return -1;
}

/** Whether the page is on its way from step `before` to step `after`: 32-bit stores in rising order of address. */
function isInProgress(page: Buffer, before: bigint, after: bigint): boolean {
  let behind = false;
  for (let half = 0; half < 2 * WORDS; half++) {
    const offset = wordOffset(half >> 1) + (half & 1) * 4;
    const shift = BigInt(32 * (half & 1));
    const found = page.readUInt32LE(offset);
    const holds = (step: bigint) => found === Number((word(step, half >> 1) >> shift) & 0xffff_ffffn);
    behind ||= !holds(after);
    if (behind && !holds(before)) return false;
  }
  return true;
}

function checkPage(page: Buffer, index: number, { steps, pass, cursor, pages }: GuestState): void {
  const step = (pass - (index < cursor ? 0n : 1n)) * BigInt(pages) + BigInt(index);
  if (index === cursor && isInProgress(page, step, steps)) return;
  const k = firstOther(page, step);
  if (k === -1) return;
  const offset = wordOffset(k);
  const found = page.readBigUInt64LE(offset);
  const address = REGION_BASE + index * PAGE_SIZE;
  const role =
    index === cursor ? 'in progress' : index < cursor ? 'already written in this pass' : 'of the pass before';
  throw invalid(
    `page ${index} of ${pages} (guest address 0x${address.toString(16)}, ${role}) is lost, stale or torn: ` +
      `its word at ${offset} is ${found}, expected ${word(step, k)}`,
    { page: index, address, cursor, pass, found },
  );
}

/**
 * Checks the guest's whole region in the RAM file of a paused VM: every page holds what the guest's own cursor says it must, and
 * the guest has never found a page other than it had left it. Streams the file; holds 1 MiB.
 *
 * @throws MigrationError `IMAGE_INVALID` for the first page that is lost, stale or torn (`details.page`, `details.address`), when the
 * guest has not completed its first pass yet, or when this is not a RAM file of a VM that runs the guest.
 */
export async function verifyGuestRam(path: string): Promise<GuestState> {
  const file = await open(path, 'r');
  try {
    const state = await readGuestState(file);
    if (state.pass === 0n) throw invalid('the guest has not completed its first pass: stop the VM later');
    if (state.bad > 0) throw foundByGuest(state);
    const buffer = Buffer.alloc(READ_PAGES * PAGE_SIZE);
    for (let first = 0; first < state.pages; first += READ_PAGES) {
      const count = Math.min(READ_PAGES, state.pages - first);
      await readFully(file, buffer.subarray(0, count * PAGE_SIZE), REGION_BASE + first * PAGE_SIZE);
      for (let i = 0; i < count; i++) {
        checkPage(buffer.subarray(i * PAGE_SIZE, (i + 1) * PAGE_SIZE), first + i, state);
      }
    }
    return state;
  } finally {
    await file.close();
  }
}
