import { mkdir, readFile, stat, symlink, writeFile } from 'node:fs/promises';
import { describe, expect, it, vi } from 'vitest';
import { ImageWriter, type ImageWriterOptions, openImage } from '../../lib/image/index.ts';
import { native } from '../../lib/native/index.ts';
import {
  BEFORE,
  deviceState,
  expectError,
  leftOpen,
  namesIn,
  PAGE,
  SMALL_VM,
  temporaryFolder,
} from './support.ts';

/** Receives the small VM up to the commit, with `page` in the first page of RAM. */
async function received(path: string, options: ImageWriterOptions = {}): Promise<ImageWriter> {
  const writer = await ImageWriter.open(path, options);
  const blocks = await writer.allocate(SMALL_VM);
  expect(blocks.map(({ name }) => name)).toEqual(['pc.ram', '/rom@etc/acpi/tables']);
  for (const part of [deviceState().subarray(0, 10), deviceState().subarray(10)]) await writer.append(part);
  return writer;
}

async function bytesOf(parts: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const part of parts) all.push(part);
  return Buffer.concat(all);
}

describe('image writer', () => {
  it('makes an image that the reader opens, with nothing beside it', async () => {
    await using folder = await temporaryFolder();
    await using writer = await received(folder.at('vm'));
    await writer.commit();
    expect(await namesIn(folder.path)).toEqual(['vm']);
    expect(await namesIn(folder.at('vm'))).toEqual([
      'after.bin',
      'before.bin',
      'manifest.json',
      'ram-0.bin',
      'ram-1.bin',
    ]);
    await using reader = await openImage(folder.at('vm'));
    expect(reader.layout).toEqual(SMALL_VM.layout);
    expect(reader.ramSection).toEqual(SMALL_VM.ramSection);
    expect(Buffer.from(reader.before)).toEqual(BEFORE);
    expect(await bytesOf(reader.after())).toEqual(deviceState());
    expect(await bytesOf(reader.after())).toEqual(deviceState());
    expect(reader.manifest.provenance).toEqual({ origin: 'migration', completeness: 'vmdescription' });
  });

  it('keeps the image from other users', async () => {
    await using folder = await temporaryFolder();
    await using writer = await received(folder.at('vm'));
    await writer.commit();
    expect((await stat(folder.at('vm'))).mode & 0o777).toBe(0o700);
    for (const name of await namesIn(folder.at('vm'))) {
      expect((await stat(folder.at(`vm/${name}`))).mode & 0o077).toBe(0);
    }
  });

  it('has no image under its name before the commit', async () => {
    await using folder = await temporaryFolder();
    await using writer = await received(folder.at('vm'));
    const names = await namesIn(folder.path);
    expect(names).toHaveLength(1);
    expect(names[0]).toMatch(/^\.vm\.partial-/);
    await writer.commit();
  });

  it('makes RAM files that cost what they hold', async () => {
    await using folder = await temporaryFolder();
    const layout = { ...SMALL_VM.layout, blocks: [{ name: 'pc.ram', length: 1n << 36n }] };
    await using writer = await ImageWriter.open(folder.at('vm'));
    await writer.allocate({ ...SMALL_VM, layout });
    await writer.commit();
    const { size, blocks } = await stat(folder.at('vm/ram-0.bin'));
    expect(size).toBe(2 ** 36);
    expect(blocks * 512).toBeLessThan(2 ** 20);
  });

  it('records what proved the VM whole', async () => {
    await using folder = await temporaryFolder();
    const cases = { unproven: {}, committed: { completeness: 'commit', peer: '127.0.0.1:1' } } as const;
    for (const [name, provenance] of Object.entries(cases)) {
      await using writer = await ImageWriter.open(folder.at(name));
      await writer.allocate(SMALL_VM);
      await writer.append(deviceState().subarray(0, -1));
      writer.setProvenance(provenance);
      await writer.commit();
      await using reader = await openImage(folder.at(name));
      const none = { origin: 'migration', completeness: 'none' };
      expect(reader.manifest.provenance).toEqual({ ...none, ...provenance });
    }
  });

  it('finds a RAM file that changed, when digests were recorded', async () => {
    await using folder = await temporaryFolder();
    await using writer = await received(folder.at('vm'), { digests: true });
    await writer.commit();
    await using reader = await openImage(folder.at('vm'));
    expect(await reader.verify()).toMatchObject({ state: 'same' });
    const bytes = await readFile(folder.at('vm/ram-0.bin'));
    bytes[5 * PAGE] = 1;
    await writeFile(folder.at('vm/ram-0.bin'), bytes, { flag: 'r+' });
    await expectError(reader.verify(), 'IMAGE_INVALID', 'pc.ram');
  });

  it('leaves nothing after abort, in any state and as often as it is called', async () => {
    await using folder = await temporaryFolder();
    const fresh = await ImageWriter.open(folder.at('a'));
    const allocated = await ImageWriter.open(folder.at('b'), { ramFiles: { 'pc.ram': folder.at('b.ram') } });
    await allocated.allocate(SMALL_VM);
    const full = await received(folder.at('c'));
    expect(await namesIn(folder.path)).toHaveLength(4);
    await Promise.all([fresh, allocated, full, full].map((writer) => writer.abort()));
    await full.abort();
    expect(await namesIn(folder.path)).toEqual([]);
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it('waits for a running step when it is aborted, and refuses later ones', async () => {
    await using folder = await temporaryFolder();
    const writer = await ImageWriter.open(folder.at('vm'));
    const allocating = writer.allocate(SMALL_VM);
    const aborting = writer.abort();
    await allocating.catch(() => undefined);
    await aborting;
    await expectError(writer.append(deviceState()), 'CANCELLED');
    await expectError(writer.commit(), 'CANCELLED');
    expect(await namesIn(folder.path)).toEqual([]);
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it('does not commit when abort comes during the commit', async () => {
    await using folder = await temporaryFolder();
    const writer = await received(folder.at('vm'));
    const committing = writer.commit();
    await Promise.resolve();
    const aborting = writer.abort();
    await expectError(committing, 'CANCELLED');
    await aborting;
    expect(await namesIn(folder.path)).toEqual([]);
  });

  it('keeps a committed image when it is aborted afterwards, and only unmaps', async () => {
    await using folder = await temporaryFolder();
    const writer = await received(folder.at('vm'));
    await writer.commit();
    await writer.abort();
    expect(await namesIn(folder.path)).toEqual(['vm']);
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it.each(['directory', 'file', 'dangling link'])('refuses a name that a %s has', async (what) => {
    await using folder = await temporaryFolder();
    if (what === 'directory') await mkdir(folder.at('vm'));
    else if (what === 'file') await writeFile(folder.at('vm'), 'x');
    else await symlink(folder.at('nowhere'), folder.at('vm'));
    await expectError(ImageWriter.open(folder.at('vm')), 'IMAGE_EXISTS', folder.at('vm'));
    expect(await namesIn(folder.path)).toEqual(['vm']);
  });

  it('gives the name to the first of two writers; the other fails and leaves nothing', async () => {
    await using folder = await temporaryFolder();
    const writers = [await received(folder.at('vm')), await received(folder.at('vm'))];
    const outcomes = await Promise.allSettled(writers.map((writer) => writer.commit()));
    expect(outcomes.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const failed = outcomes.find((outcome) => outcome.status === 'rejected');
    expect(failed?.reason).toMatchObject({ code: 'IMAGE_EXISTS' });
    await Promise.all(writers.map((writer) => writer.abort()));
    expect(await namesIn(folder.path)).toEqual(['vm']);
    await using reader = await openImage(folder.at('vm'));
    expect(await bytesOf(reader.after())).toEqual(deviceState());
  });

  it('names the folder that is missing', async () => {
    await using folder = await temporaryFolder();
    await expectError(
      ImageWriter.open(folder.at('no/vm')),
      'INVALID_ARGUMENT',
      `${folder.at('no')} does not exist`,
    );
  });

  it('says what is needed and what there is when the stream that comes is longer than there is room', async () => {
    await using folder = await temporaryFolder('/dev/shm');
    await using writer = await ImageWriter.open(folder.at('vm'), { streamBytes: 1n << 47n });
    const layout = { ...SMALL_VM.layout, blocks: [{ name: 'pc.ram', length: 1n << 46n }] };
    const error = await expectError(writer.allocate({ ...SMALL_VM, layout }), 'DISK_FULL', String(1n << 46n));
    expect(error.details).toEqual({ needed: 1n << 46n, free: expect.any(BigInt) });
    expect(await namesIn(folder.path)).toEqual([]);
  });

  it('says that no process maps as much, before it makes a file', async () => {
    await using folder = await temporaryFolder();
    await using writer = await ImageWriter.open(folder.at('vm'));
    const layout = { ...SMALL_VM.layout, blocks: [{ name: 'pc.ram', length: 1n << 60n }] };
    await expectError(writer.allocate({ ...SMALL_VM, layout }), 'OUT_OF_MEMORY', String(1n << 60n));
  });

  it('gives every later step the first failure', async () => {
    await using folder = await temporaryFolder();
    await using writer = await ImageWriter.open(folder.at('vm'));
    const layout = { ...SMALL_VM.layout, blocks: [{ name: 'pc.ram', length: 1n << 60n }] };
    const first = await expectError(writer.allocate({ ...SMALL_VM, layout }), 'OUT_OF_MEMORY');
    await expect(writer.commit()).rejects.toBe(first);
  });

  it('undoes everything when the addon fails to map the second block', async () => {
    await using folder = await temporaryFolder();
    const noRoom = Object.assign(new Error('no room'), { code: 'OUT_OF_MEMORY' });
    const { mapFile } = native;
    const failing = vi.spyOn(native, 'mapFile').mockImplementation((options) => {
      return options.path.endsWith('ram-1.bin') ? Promise.reject(noRoom) : mapFile(options);
    });
    try {
      const writer = await ImageWriter.open(folder.at('vm'));
      await expectError(writer.allocate(SMALL_VM), 'OUT_OF_MEMORY', 'no room', '8192 bytes');
      await writer.abort();
    } finally {
      failing.mockRestore();
    }
    expect(await namesIn(folder.path)).toEqual([]);
    expect(await leftOpen(folder.path)).toEqual([]);
  });
});

describe('RAM outside the image', () => {
  it('is made at the path that the caller names, recorded and kept', async () => {
    await using folder = await temporaryFolder();
    const path = folder.at('vm1.ram');
    await using writer = await received(folder.at('vm'), { ramFiles: { 'pc.ram': path } });
    await writer.commit();
    expect((await stat(path)).size).toBe(16 * PAGE);
    expect(await namesIn(folder.at('vm'))).not.toContain('ram-0.bin');
    await using reader = await openImage(folder.at('vm'), { ramFiles: { 'pc.ram': path } });
    expect(reader.manifest.blocks[0]?.external?.path).toBe(path);
  });

  it('never takes a file that is there, and never removes it', async () => {
    await using folder = await temporaryFolder();
    await writeFile(folder.at('vm1.ram'), 'precious');
    const writer = await ImageWriter.open(folder.at('vm'), { ramFiles: { 'pc.ram': folder.at('vm1.ram') } });
    await expectError(writer.allocate(SMALL_VM), 'IMAGE_EXISTS', 'vm1.ram');
    await writer.abort();
    expect(await readFile(folder.at('vm1.ram'), 'utf8')).toBe('precious');
    expect(await namesIn(folder.path)).toEqual(['vm1.ram']);
  });

  it('refuses a block that the VM does not have', async () => {
    await using folder = await temporaryFolder();
    await using writer = await ImageWriter.open(folder.at('vm'), { ramFiles: { 'pc.rom': folder.at('x') } });
    await expectError(writer.allocate(SMALL_VM), 'INVALID_ARGUMENT', "'pc.rom'", 'pc.ram');
  });

  it.each<[string, ImageWriterOptions, string]>([
    ['a relative path', { ramFiles: { 'pc.ram': 'x' } }, 'absolute'],
    ['one path twice', { ramFiles: { a: '/x', b: '/x' } }, 'two RAM blocks'],
    [
      'a block to be made and there',
      { ramFiles: { a: '/x' }, sharedRam: { a: '/y' } },
      'either created or exists',
    ],
  ])('refuses %s and leaves nothing', async (_what, options, says) => {
    await using folder = await temporaryFolder();
    await expectError(ImageWriter.open(folder.at('vm'), options), 'INVALID_ARGUMENT', says);
    expect(await namesIn(folder.path)).toEqual([]);
  });
});
