import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { native } from '../../lib/native/index.ts';
import type { NativeMapping } from '../../lib/native/memory.ts';

export const PAGE = 4096;
export const MIB = 1024n * 1024n;

/** The addon's file, for worker threads. */
export const ADDON_PATH = new URL('../../build/Release/rdma_migrate.node', import.meta.url).pathname;

/** The error that a promise is rejected with. */
export async function failure(promise: Promise<unknown>): Promise<Error & { code?: string; errno?: number }> {
  const outcome = await promise.then(
    () => undefined,
    (error: unknown) => error,
  );
  expect(outcome, 'the promise was not rejected').toBeInstanceOf(Error);
  return outcome as Error;
}

/** Whether a mapping's memory is mapped in this process. */
export function isMapped(name: string): boolean {
  return readFileSync('/proc/self/maps', 'utf8').includes(name);
}

export function pageRecord(page: number, fill: number, name?: string): Buffer {
  const word = Buffer.alloc(8);
  word.writeBigUInt64BE((BigInt(page) * BigInt(PAGE)) | 0x08n | (name === undefined ? 0x20n : 0n));
  const label = name === undefined ? Buffer.alloc(0) : Buffer.from(`\0${name}`);
  if (name !== undefined) label[0] = name.length;
  return Buffer.concat([word, label, Buffer.alloc(PAGE, fill)]);
}

/** Writes pages of one repeated byte each. */
export async function writePages(mapping: NativeMapping, pages: Iterable<[number, number]>): Promise<void> {
  const reader = native.createPageReader([{ name: 'block', mapping }]);
  for (const [page, fill] of pages) await reader.push(pageRecord(page, fill, 'block'), 0);
}

/** The memory that all of a process's mappings of a name use, in bytes. */
export function residentBytes(name: string): number {
  const areas = readFileSync('/proc/self/smaps', 'utf8').split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const sizes = areas.filter((area) => area.split('\n', 1)[0]?.includes(name));
  return sizes.reduce((total, area) => total + Number(/^Rss:\s+(\d+) kB/m.exec(area)?.[1] ?? 0) * 1024, 0);
}
