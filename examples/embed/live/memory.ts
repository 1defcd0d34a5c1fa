/**
 * What the guest's RAM must hold whenever it is paused: pages below `nextPage` are of pass `pass`, the others of the pass
 * before. Every word of a page is the same, so that a torn page shows; every eighth pass writes zeros.
 */
import { closeSync, openSync, readSync } from 'node:fs';

export const PAGE = 4096;
/** Indexes into the shared control words. */
export const CONTROL = { wanted: 0, standing: 1, throttle: 2, run: 0, pause: 1 } as const;
/** Indexes into the shared state. `lastWrite`: nanoseconds of the monotonic clock, which all processes of a machine share. */
export const STATE = { nextPage: 0, pass: 1, lastWrite: 2 } as const;

export interface GuestMemory {
  readonly address: bigint;
  readonly pages: number;
  readonly control: SharedArrayBuffer;
  readonly state: SharedArrayBuffer;
}

/** Where the guest is: all of its device state. */
export interface GuestState {
  readonly nextPage: number;
  readonly pass: number;
}

const words = new BigUint64Array(PAGE / 8);
const bytes = Buffer.from(words.buffer);

/** The content of a page; valid until the next call. */
export function contentOf(pass: bigint, page: number): Buffer {
  const value = pass % 8n === 0n ? 0n : (pass << 32n) | BigInt(page + 1);
  words.fill(value);
  return bytes;
}

const BATCH_PAGES = 256;

/** Compares every page with what it must be. @throws Error that names the first wrong page */
export function verify(address: bigint, pages: number, { nextPage, pass }: GuestState): void {
  const memory = openSync('/proc/self/mem', 'r');
  const batch = Buffer.alloc(BATCH_PAGES * PAGE);
  for (let first = 0; first < pages; first += BATCH_PAGES) {
    const count = Math.min(BATCH_PAGES, pages - first);
    readSync(memory, batch, 0, count * PAGE, Number(address + BigInt(first * PAGE)));
    for (let page = first; page < first + count; page += 1) {
      const found = batch.subarray((page - first) * PAGE, (page - first + 1) * PAGE);
      const due = page < nextPage ? pass : pass - 1;
      if (!found.equals(contentOf(BigInt(due), page))) throw wrongPage(page, due, found);
    }
  }
  closeSync(memory);
}

function wrongPage(page: number, due: number, found: Buffer): Error {
  const seen = new Set<string>();
  for (let at = 0; at < PAGE; at += 8) {
    const value = found.readBigUInt64LE(at);
    seen.add(value === 0n ? 'zero' : `pass ${value >> 32n} of page ${(value & 0xffffffffn) - 1n}`);
  }
  return new Error(`page ${page} must be of pass ${due} and has ${[...seen].slice(0, 3).join(', ')}`);
}
