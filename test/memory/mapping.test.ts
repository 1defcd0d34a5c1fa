import { open, readFile, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { native } from '../../lib/native/index.ts';
import { temporaryFolder } from '../support/temp.ts';
import { failure, isMapped, MIB, PAGE, residentBytes, writePages } from './support.ts';

test('a memfd has the length and page size it was asked for', async () => {
  const mapping = await native.mapMemfd({ name: 'memfd-facts', length: 8n * MIB });
  expect(mapping.kind).toBe('memfd');
  expect(mapping.length).toBe(8n * MIB);
  expect(mapping.pageSize % PAGE).toBe(0);
  expect(mapping.address % BigInt(mapping.pageSize)).toBe(0n);
  expect(isMapped('memfd-facts')).toBe(true);
  await mapping.close();
});

test('a created file is sparse and holds what is written through the mapping', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'ram');
  const mapping = await native.mapFile({ path, length: 4n * MIB, mode: 'create' });
  expect((await stat(path)).size).toBe(4 * 1024 * 1024);
  expect((await stat(path)).blocks).toBe(0);
  await writePages(mapping, [[5, 0xab]]);
  await mapping.sync();
  await mapping.close();
  const bytes = await readFile(path);
  expect(bytes.subarray(5 * PAGE, 6 * PAGE).every((byte) => byte === 0xab)).toBe(true);
  expect(bytes.subarray(6 * PAGE).every((byte) => byte === 0)).toBe(true);
});

test.each([
  [{ path: '/nonexistent/ram', length: MIB, mode: 'read' }, 'IO_ERROR', 2],
  [{ path: '/tmp', length: MIB, mode: 'read' }, 'INVALID_ARGUMENT', undefined],
  [{ path: '', length: MIB, mode: 'read' }, 'INVALID_ARGUMENT', undefined],
  [{ path: '/dev/zero', length: MIB, mode: 'write' }, 'INVALID_ARGUMENT', undefined],
] as const)('mapFile(%o) is refused with %s', async (options, code, errno) => {
  const error = await failure(native.mapFile(options));
  expect(error).toMatchObject(errno === undefined ? { code } : { code, errno });
});

test('an existing file is never overwritten and a short one is refused with both lengths', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'ram');
  await writeFile(path, 'precious');
  expect(await failure(native.mapFile({ path, length: MIB, mode: 'create' }))).toMatchObject({
    code: 'IO_ERROR',
    errno: 17,
  });
  const error = await failure(native.mapFile({ path, length: MIB, mode: 'write' }));
  expect(error).toMatchObject({ code: 'INVALID_ARGUMENT' });
  expect(error.message).toContain(path);
  expect(error.message).toContain('8 bytes');
  expect(error.message).toContain('1048576 bytes (1.0 MiB)');
  expect(await readFile(path, 'utf8')).toBe('precious');
});

test('RAM larger than the machine is OUT_OF_MEMORY with both numbers', async () => {
  const error = await failure(native.mapMemfd({ name: 'huge', length: 1n << 50n }));
  expect(error).toMatchObject({ code: 'OUT_OF_MEMORY' });
  expect(error.message).toMatch(/1125899906842624 bytes \(1\.0 PiB\) needed.*\d+ bytes/);
});

test.each([0n, 1n, 4095n, -1n, 1n << 63n, 1n << 64n])('a length of %s is rejected', async (length) => {
  expect(await failure(native.mapMemfd({ name: 'x', length }))).toBeInstanceOf(Error);
});

test('arguments of a wrong type are rejections and not exceptions', async () => {
  const mapping = await native.mapMemfd({ name: 'types', length: MIB });
  const wrong = mapping as unknown as Record<string, (...values: unknown[]) => Promise<unknown>>;
  const calls: [string, unknown[]][] = [
    ['populate', [0, 4096]],
    ['populate', []],
    ['zero', [0n, 4096n]],
    ['zero', [0n, -1n, true]],
    ['classify', [{}, { offset: 0n, length: 0n, minZeroRun: 0n, mergeGap: 0n }]],
    ['classify', [native.createBitmap(256), { offset: 0n }]],
  ];
  for (const [name, values] of calls) await failure(wrong[name]?.(...values) ?? Promise.resolve());
  const maps = native as unknown as Record<string, (...values: unknown[]) => Promise<unknown>>;
  await failure(maps.mapMemfd?.() ?? Promise.resolve());
  await failure(maps.mapFile?.({ path: '/tmp/x', length: MIB, mode: 'append' }) ?? Promise.resolve());
  await mapping.close();
});

test('a range outside the mapping is INVALID_ARGUMENT', async () => {
  const mapping = await native.mapMemfd({ name: 'bounds', length: MIB });
  for (const [offset, length] of [
    [MIB, 1n],
    [1n, MIB],
    [4096n, (1n << 64n) - 1n],
  ] as const) {
    expect(await failure(mapping.populate(offset, length))).toMatchObject({ code: 'INVALID_ARGUMENT' });
    expect(await failure(mapping.zero(offset, length, true))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  }
  await mapping.close();
});

test('a mapping for reading refuses populate and zero', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'ram');
  await writeFile(path, Buffer.alloc(2 * PAGE, 7));
  const mapping = await native.mapFile({ path, length: BigInt(PAGE), mode: 'read' });
  expect(await failure(mapping.zero(0n, 1n, false))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  expect(await failure(mapping.populate(0n, 1n))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  await mapping.sync();
  await mapping.close();
  expect((await readFile(path)).every((byte) => byte === 7)).toBe(true);
});

test('populate makes exactly the range present; punching gives it back', async () => {
  const mapping = await native.mapMemfd({ name: 'populated', length: 32n * MIB });
  await mapping.populate(8n * MIB, 4n * MIB);
  expect(residentBytes('memfd:populated')).toBe(4 * 1024 * 1024);
  await mapping.zero(8n * MIB, 3n * MIB, true);
  expect(residentBytes('memfd:populated')).toBe(1024 * 1024);
  await mapping.close();
});

test('a digest tells contents apart, and not holes from zeros', async () => {
  const [sparse, written] = await Promise.all([
    native.mapMemfd({ name: 'sparse', length: MIB }),
    native.mapMemfd({ name: 'written', length: MIB }),
  ]);
  await written.populate(0n, MIB);
  expect(await sparse.digest()).toMatch(/^[0-9a-f]{64}$/);
  expect(await sparse.digest()).toBe(await written.digest());
  await writePages(sparse, [[3, 1]]);
  const one = await sparse.digest();
  await writePages(written, [[4, 1]]);
  expect(await written.digest()).not.toBe(one);
  await written.zero(0n, MIB, false);
  await writePages(written, [[3, 1]]);
  expect(await written.digest()).toBe(one);
  await Promise.all([sparse.close(), written.close()]);
});

test("a caller's range is used in place and left mapped", async () => {
  const memory = await native.mapMemfd({ name: 'embedder', length: MIB });
  const part = await native.mapCaller({ address: memory.address + 16384n, length: 65536n });
  expect(part).toMatchObject({ kind: 'caller', address: memory.address + 16384n, length: 65536n });
  await writePages(part, [[0, 9]]);
  await part.close();
  const other = await native.mapMemfd({ name: 'other', length: MIB });
  await writePages(other, [[4, 9]]);
  expect(await memory.digest()).toBe(await other.digest());
  const address = memory.address;
  await Promise.all([memory.close(), other.close()]);
  expect(await failure(native.mapCaller({ address: address + 1n, length: 4096n }))).toMatchObject({
    code: 'INVALID_ARGUMENT',
  });
});

test("holes of a caller's shared range are told from the file that is given with it", async () => {
  await using folder = await temporaryFolder('rdma-migrate-caller-');
  const path = join(folder.path, 'ram');
  const file = await native.mapFile({ path, length: 16n * MIB, mode: 'create' });
  await using handle = await open(path, 'r');
  const range = await native.mapCaller({ address: file.address, length: file.length, fd: handle.fd });
  await range.digest();
  expect(residentBytes(path)).toBe(0);
  await range.close();
  const options = { address: file.address, length: file.length, fd: 1 << 20 };
  expect(await failure(native.mapCaller(options))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  await file.close();
});

test('a file that is cut short while mapped is IO_ERROR', async () => {
  await using folder = await temporaryFolder();
  const path = join(folder.path, 'ram');
  await writeFile(path, Buffer.alloc(64 * PAGE, 7));
  const mapping = await native.mapFile({ path, length: BigInt(64 * PAGE), mode: 'write' });
  await truncate(path, PAGE);
  expect(await failure(mapping.digest())).toMatchObject({ code: 'IO_ERROR' });
  expect(await failure(mapping.populate(0n, BigInt(64 * PAGE)))).toMatchObject({ code: 'IO_ERROR' });
  await mapping.close();
});
