import { spawnSync } from 'node:child_process';
import { cp, mkdir, open, readFile, rename, rm, symlink, truncate, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import {
  ImageWriter,
  type ImageWriterOptions,
  inspect,
  inspectionToJson,
  openImage,
} from '../../lib/image/index.ts';
import { deviceState, expectError, leftOpen, namesIn, PAGE, SMALL_VM, temporaryFolder } from './support.ts';

async function makeImage(path: string, options: ImageWriterOptions = {}): Promise<void> {
  await using writer = await ImageWriter.open(path, options);
  await writer.allocate(SMALL_VM);
  await writer.append(deviceState());
  await writer.commit();
}

/** Changes the manifest's text. */
async function edit(path: string, from: string | RegExp, to: string): Promise<void> {
  const text = await readFile(`${path}/manifest.json`, 'utf8');
  expect(text).toMatch(from);
  await writeFile(`${path}/manifest.json`, text.replace(from, to));
}

describe('opening an image', () => {
  it('says that there is none', async () => {
    await expectError(openImage('/nonexistent/vm'), 'IMAGE_NOT_FOUND', '/nonexistent/vm');
    await expectError(inspect('/nonexistent/vm'), 'IMAGE_NOT_FOUND');
  });

  it('refuses a file, and a folder without a manifest', async () => {
    await using folder = await temporaryFolder();
    await writeFile(folder.at('file'), '');
    await mkdir(folder.at('empty'));
    await expectError(openImage(folder.at('file')), 'IMAGE_INVALID', 'not a directory');
    await expectError(openImage(folder.at('empty')), 'IMAGE_INVALID', 'no manifest.json');
  });

  it('may be reached through a link to the directory', async () => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    await symlink('vm', folder.at('link'));
    await using reader = await openImage(folder.at('link'));
    expect(reader.layout.machine).toBe('test-1.0');
  });

  it.each(['manifest.json', 'before.bin', 'after.bin', 'ram-0.bin', 'ram-1.bin'])(
    'refuses a symbolic link, a FIFO and a folder as %s',
    async (name) => {
      await using folder = await temporaryFolder();
      const path = folder.at('vm');
      await makeImage(path);
      await cp(`${path}/${name}`, folder.at('copy'));
      await rm(`${path}/${name}`);
      await symlink(folder.at('copy'), `${path}/${name}`);
      await expectError(openImage(path), 'IMAGE_INVALID', 'symbolic link', name);
      await rm(`${path}/${name}`);
      expect(spawnSync('mkfifo', [`${path}/${name}`]).status).toBe(0);
      await expectError(openImage(path), 'IMAGE_INVALID', 'not a regular file', name);
      await rm(`${path}/${name}`);
      await mkdir(`${path}/${name}`);
      await expectError(openImage(path), 'IMAGE_INVALID', 'not a regular file', name);
      expect(await leftOpen(folder.path)).toEqual([]);
    },
  );

  it.each(['before.bin', 'after.bin', 'ram-0.bin'])('refuses %s of another length', async (name) => {
    await using folder = await temporaryFolder();
    const path = folder.at('vm');
    await makeImage(path);
    await truncate(`${path}/${name}`, 3);
    await expectError(openImage(path), 'IMAGE_INVALID', name, '3 bytes');
    await rm(`${path}/${name}`);
    await expectError(openImage(path), 'IMAGE_INVALID', name, 'does not exist');
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it('refuses a manifest of gigabytes without reading it', async () => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    await truncate(folder.at('vm/manifest.json'), 2 ** 33);
    await expectError(openImage(folder.at('vm')), 'IMAGE_INVALID', String(2 ** 33));
  });

  it('refuses a manifest that speaks of another VM than the stream', async () => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    await edit(folder.at('vm'), '"test-1.0"', '"test-1.1"');
    await expectError(openImage(folder.at('vm')), 'IMAGE_INVALID', 'another VM');
  });

  it('refuses a beginning of the stream that is none', async () => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    const file = await open(folder.at('vm/before.bin'), 'r+');
    await file.write(Buffer.of(0), 0, 1, 0);
    await file.close();
    await expectError(openImage(folder.at('vm')), 'IMAGE_INVALID', 'beginning of its stream');
  });

  it('does not read what was closed', async () => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    const reader = await openImage(folder.at('vm'));
    await Promise.all([reader.close(), reader.close()]);
    await expectError(reader.after().next(), 'CLOSED');
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it('ends when its signal is aborted', async () => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    await expectError(openImage(folder.at('vm'), { signal: AbortSignal.abort() }), 'CANCELLED');
    expect(await leftOpen(folder.path)).toEqual([]);
  });
});

describe('an image with RAM outside', () => {
  it('is opened only where the caller names the file: the manifest alone opens nothing', async () => {
    await using folder = await temporaryFolder();
    const ram = folder.at('vm.ram');
    await makeImage(folder.at('vm'), { ramFiles: { 'pc.ram': ram } });
    const refused = await expectError(
      openImage(folder.at('vm')),
      'INVALID_ARGUMENT',
      '--ram-file pc.ram=PATH',
      ram,
    );
    expect(refused.details).toEqual({ block: 'pc.ram', recorded: ram });
    expect(await leftOpen(folder.path)).toEqual([]);
    await using reader = await openImage(folder.at('vm'), { ramFiles: { 'pc.ram': ram } });
    expect(reader.blocks[0]?.mapping.length).toBe(BigInt(16 * PAGE));
  });

  it('refuses a file that is too short, a link or gone', async () => {
    await using folder = await temporaryFolder();
    const ram = folder.at('vm.ram');
    const ramFiles = { 'pc.ram': ram };
    await makeImage(folder.at('vm'), { ramFiles });
    await rename(ram, folder.at('moved'));
    await symlink(folder.at('moved'), ram);
    await expectError(openImage(folder.at('vm'), { ramFiles }), 'IMAGE_INVALID', 'symbolic link');
    await rm(ram);
    await rename(folder.at('moved'), ram);
    await truncate(ram, PAGE);
    await expectError(openImage(folder.at('vm'), { ramFiles }), 'IMAGE_INVALID', `${PAGE} bytes`);
    await rm(ram);
    await expectError(openImage(folder.at('vm'), { ramFiles }), 'IMAGE_INVALID', 'does not exist');
  });
});

describe('inspecting an image', () => {
  it('tells what is in it, and what each block takes on the disk', async () => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    const file = await open(folder.at('vm/ram-0.bin'), 'r+');
    await file.write(Buffer.alloc(PAGE, 1), 0, PAGE, 8 * PAGE);
    await file.sync();
    await file.close();
    const inspection = await inspect(folder.at('vm'));
    expect(inspection).toMatchObject({
      path: folder.at('vm'),
      machine: 'test-1.0',
      pageSize: PAGE,
      provenance: { origin: 'migration', completeness: 'vmdescription' },
      ramBytes: BigInt(18 * PAGE),
      allocatedBytes: BigInt(PAGE),
      deviceStateBytes: BigInt(deviceState().length),
      devices: [
        { name: 'timer', instanceId: 0 },
        { name: 'cpu', instanceId: 1 },
      ],
    });
    expect(inspection.tool).toMatch(/^rdma-migrate \d+\.\d+\.\d+/);
    expect(inspection.blocks.map(({ allocated }) => allocated)).toEqual([BigInt(PAGE), 0n]);
    expect(JSON.parse(inspectionToJson(inspection)).blocks[0]).toEqual({
      name: 'pc.ram',
      length: String(16 * PAGE),
      allocated: String(PAGE),
      file: 'ram-0.bin',
      external: false,
    });
  });

  it('looks at a file outside only where the caller names it', async () => {
    await using folder = await temporaryFolder();
    const ramFiles = { 'pc.ram': folder.at('vm.ram') };
    await makeImage(folder.at('vm'), { ramFiles });
    const [unseen] = (await inspect(folder.at('vm'))).blocks;
    expect(unseen).toMatchObject({ file: folder.at('vm.ram'), external: true, allocated: undefined });
    expect(unseen?.problem).toBeUndefined();
    const [seen] = (await inspect(folder.at('vm'), { ramFiles })).blocks;
    expect(seen).toMatchObject({ file: folder.at('vm.ram'), external: true, allocated: 0n });
  });

  it('names what is wrong with a RAM file and tells the rest', async () => {
    await using folder = await temporaryFolder();
    const ramFiles = { 'pc.ram': folder.at('vm.ram') };
    await makeImage(folder.at('vm'), { ramFiles });
    await rm(folder.at('vm.ram'));
    const { blocks } = await inspect(folder.at('vm'), { ramFiles });
    expect(blocks[0]).toMatchObject({ external: true, allocated: undefined });
    expect(blocks[0]?.problem).toContain('does not exist');
    expect(blocks[1]?.problem).toBeUndefined();
    expect(await namesIn(folder.path)).toEqual(['vm']);
  });
});
