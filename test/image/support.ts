import { mkdtemp, readdir, readFile, readlink, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect } from 'vitest';
import { type ErrorCode, MigrationError } from '../../lib/errors.ts';
import type { ReceivedVm } from '../../lib/ram/vm.ts';

export const PAGE = 4096;

/** A folder that is removed at the end of the test's block. */
export async function temporaryFolder(
  parent = tmpdir(),
): Promise<AsyncDisposable & { path: string; at(name: string): string }> {
  const path = await mkdtemp(join(parent, 'rdma-migrate-image-'));
  return {
    path,
    at: (name) => join(path, name),
    [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }),
  };
}

/** Waits for the failure, which must have that code and say all of that. */
export async function expectError(
  work: Promise<unknown> | (() => unknown),
  code: ErrorCode,
  ...says: (string | RegExp)[]
): Promise<MigrationError> {
  const failure = await Promise.resolve()
    .then(() => (typeof work === 'function' ? work() : work))
    .then(
      () => undefined,
      (error: unknown) => error,
    );
  expect(failure).toBeInstanceOf(MigrationError);
  const error = failure as MigrationError;
  expect(`${error.code}: ${error.message}`).toMatch(new RegExp(`^${code}: `));
  for (const text of says) expect(error.message).toMatch(text);
  return error;
}

/** What is in a folder, hidden names too. */
export const namesIn = async (path: string): Promise<string[]> => (await readdir(path)).sort();

/** Descriptors and mappings of this process that lead into a folder: what a failure must not leave. */
export async function leftOpen(path: string): Promise<string[]> {
  const maps = (await readFile('/proc/self/maps', 'utf8')).split('\n').filter((line) => line.includes(path));
  const open = await Promise.all(
    (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  );
  return [...maps, ...open.filter((target) => target.startsWith(path))];
}

/** Magic, version, CONFIGURATION of machine `test-1.0`. */
export const BEFORE = Buffer.concat([
  Buffer.from('5145564d00000003', 'hex'),
  Buffer.from('0700000008', 'hex'),
  Buffer.from('test-1.0'),
]);

/** A VM of two blocks: 16 pages of RAM and 2 of ROM. */
export const SMALL_VM: ReceivedVm = {
  layout: {
    machine: 'test-1.0',
    pageSize: PAGE,
    blocks: [
      { name: 'pc.ram', length: BigInt(16 * PAGE) },
      { name: '/rom@etc/acpi/tables', length: BigInt(2 * PAGE) },
    ],
  },
  ramSection: { sectionId: 2, instanceId: 0 },
  before: BEFORE,
};

/** Device state that proves to be whole: one FULL section, EOF, VMDESCRIPTION. */
export function deviceState(devices: readonly string[] = ['timer', 'cpu']): Buffer {
  const sections = devices.map((name, index) =>
    Buffer.concat([
      Buffer.of(0x04),
      u32(40 + index),
      counted(name),
      u32(index),
      u32(1),
      Buffer.from(`state of ${name}`),
      Buffer.of(0x7e),
      u32(40 + index),
    ]),
  );
  const description = {
    page_size: PAGE,
    devices: devices.map((name, index) => ({ name, instance_id: index, version: 1 })),
  };
  const json = Buffer.from(JSON.stringify(description));
  return Buffer.concat([...sections, Buffer.of(0x00), Buffer.of(0x06), u32(json.length), json]);
}

export const counted = (text: string): Buffer =>
  Buffer.concat([Buffer.of(text.length), Buffer.from(text, 'latin1')]);

export function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}
