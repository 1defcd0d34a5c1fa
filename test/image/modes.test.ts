import { readdir, readlink, stat } from 'node:fs/promises';
import { afterEach, describe, expect, it } from 'vitest';
import { withOutputFile } from '../../lib/cli/stream-file.ts';
import { createFile } from '../../lib/image/files.ts';
import { ImageWriter, toQemu } from '../../lib/image/index.ts';
import { mapFile, mapMemfd } from '../../lib/index.ts';
import { deviceState, namesIn, PAGE, SMALL_VM, temporaryFolder } from './support.ts';

const umask = process.umask();
afterEach(() => {
  process.umask(umask);
});

const modeOf = async (path: string): Promise<string> => ((await stat(path)).mode & 0o7777).toString(8);

/** The modes of everything in a folder, itself included. */
async function modesIn(path: string): Promise<Record<string, string>> {
  const names = await namesIn(path);
  const modes = await Promise.all(names.map(async (name) => [name, await modeOf(`${path}/${name}`)]));
  return { '.': await modeOf(path), ...Object.fromEntries(modes) };
}

describe('with a umask that takes nothing away', () => {
  it('an image is its owner’s alone, while it is made and afterwards', async () => {
    await using folder = await temporaryFolder();
    process.umask(0);
    const ramFiles = { 'pc.ram': folder.at('vm.ram') };
    await using writer = await ImageWriter.open(folder.at('vm'), { ramFiles });
    await writer.allocate(SMALL_VM);
    await writer.append(deviceState());
    const [partial = ''] = (await namesIn(folder.path)).filter((name) => name.includes('partial'));
    expect(await modesIn(folder.at(partial))).toEqual({
      '.': '700',
      'after.bin': '600',
      'before.bin': '600',
      'outside.json': '600',
      'owner.json': '600',
      'ram-1.bin': '600',
    });
    await writer.commit();
    expect(await modesIn(folder.at('vm'))).toEqual({
      '.': '700',
      'after.bin': '600',
      'before.bin': '600',
      'manifest.json': '600',
      'ram-1.bin': '600',
    });
    expect(await modeOf(folder.at('vm.ram'))).toBe('600');
  });

  it('a stream that is written to a file is too: it is the VM’s memory', async () => {
    await using folder = await temporaryFolder();
    process.umask(0);
    await using writer = await ImageWriter.open(folder.at('vm'));
    await writer.allocate(SMALL_VM);
    await writer.append(deviceState());
    await writer.commit();
    const wait = { signal: new AbortController().signal, onWaiting: () => undefined };
    await withOutputFile(folder.at('stream'), wait, async (output) => {
      const [partial = ''] = (await namesIn(folder.path)).filter((name) => name.includes('partial'));
      expect(await modesIn(folder.at(partial))).toMatchObject({ '.': '700', stream: '600' });
      await toQemu(folder.at('vm'), output);
    });
    expect(await modeOf(folder.at('stream'))).toBe('600');
  });

  it.each(['/dev/shm', undefined])('RAM in a file is too, in %s', async (parent) => {
    await using folder = await temporaryFolder(parent);
    process.umask(0);
    const mapping = await mapFile({ path: folder.at('ram'), length: BigInt(PAGE), mode: 'create' });
    expect(await modeOf(folder.at('ram'))).toBe('600');
    await mapping.close();
  });

  it('RAM in a memfd is too, which the kernel lets everybody open', async () => {
    process.umask(0);
    const mapping = await mapMemfd({ name: 'modes-test', length: BigInt(PAGE) });
    const fds = await readdir('/proc/self/fd');
    const links = await Promise.all(fds.map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')));
    const fd = fds[links.findIndex((link) => link.startsWith('/memfd:modes-test'))];
    expect(await modeOf(`/proc/self/fd/${fd}`)).toBe('600');
    await mapping.close();
  });
});

describe('with a umask that takes the owner’s rights', () => {
  it('files can be read again', async () => {
    await using folder = await temporaryFolder();
    process.umask(0o777);
    await (await createFile(folder.at('file'))).close();
    const mapping = await mapFile({ path: folder.at('ram'), length: BigInt(PAGE), mode: 'create' });
    await mapping.close();
    expect(await modesIn(folder.path)).toEqual({ '.': '700', file: '600', ram: '600' });
  });
});
