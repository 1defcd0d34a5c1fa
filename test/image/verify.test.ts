/** Whether an image is what was received, and what is said where that cannot be known. */
import { readFile, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { type ImageProgress, ImageWriter, openImage } from '../../lib/image/index.ts';
import { deviceState, expectError, PAGE, SMALL_VM, temporaryFolder } from './support.ts';

async function image(
  folder: { at(name: string): string },
  { digests }: { digests: boolean },
): Promise<string> {
  const path = folder.at('vm');
  await using writer = await ImageWriter.open(path, { digests });
  await writer.allocate(SMALL_VM);
  await writer.append(deviceState().subarray(0, 10));
  await writer.append(deviceState().subarray(10));
  await writer.commit();
  return path;
}

const verify = async (path: string) => {
  await using reader = await openImage(path);
  return await reader.verify();
};

/** Edits the manifest as JSON. */
async function edit(path: string, change: (manifest: Record<string, never>) => void): Promise<void> {
  const manifest = JSON.parse(await readFile(`${path}/manifest.json`, 'utf8'));
  change(manifest);
  await writeFile(`${path}/manifest.json`, JSON.stringify(manifest));
}

describe('verifying an image', () => {
  it('reads and compares all of it, and says how far it has come', async () => {
    await using folder = await temporaryFolder();
    const path = await image(folder, { digests: true });
    const progress: ImageProgress[] = [];
    await using reader = await openImage(path);
    const found = await reader.verify({ onProgress: (at) => progress.push(at) });
    expect(found).toMatchObject({ path, state: 'same' });
    expect(found.parts.map(({ name, compared }) => [name, compared])).toEqual([
      ['pc.ram', true],
      ['/rom@etc/acpi/tables', true],
      ['before.bin', true],
      ['after.bin', true],
    ]);
    const total = SMALL_VM.layout.blocks.reduce((sum, { length }) => sum + length, 0n);
    expect(progress.at(-1)).toMatchObject({ phase: 'device-state', done: total, total });
  });

  it.each(['ram-0.bin', 'ram-1.bin', 'after.bin'])('finds one bit of %s', async (file) => {
    await using folder = await temporaryFolder();
    const path = await image(folder, { digests: true });
    const bytes = await readFile(`${path}/${file}`);
    bytes[bytes.length >> 1] = (bytes[bytes.length >> 1] as number) ^ 1;
    await writeFile(`${path}/${file}`, bytes, { flag: 'r+' });
    await expectError(verify(path), 'IMAGE_INVALID', 'is not what was received');
  });

  it('names everything that differs', async () => {
    await using folder = await temporaryFolder();
    const path = await image(folder, { digests: true });
    for (const file of ['ram-0.bin', 'after.bin']) {
      const bytes = await readFile(`${path}/${file}`);
      bytes[PAGE >> 6] = (bytes[PAGE >> 6] as number) ^ 128;
      await writeFile(`${path}/${file}`, bytes, { flag: 'r+' });
    }
    await expectError(verify(path), 'IMAGE_INVALID', 'pc.ram, after.bin');
  });

  it('never says that an image without digests is the same', async () => {
    await using folder = await temporaryFolder();
    const path = await image(folder, { digests: false });
    const found = await verify(path);
    expect(found.state).toBe('not-compared');
    expect(found.parts.every(({ compared }) => !compared)).toBe(true);
  });

  it('says what has a digest and what has none', async () => {
    await using folder = await temporaryFolder();
    const path = await image(folder, { digests: true });
    await edit(path, (manifest: { after?: { digest?: string } }) => {
      delete manifest.after?.digest;
    });
    const { state, parts } = await verify(path);
    expect(state).toBe('partly');
    expect(parts.filter(({ compared }) => !compared).map(({ name }) => name)).toEqual(['after.bin']);
  });

  it('is ended by its signal', async () => {
    await using folder = await temporaryFolder();
    const path = await image(folder, { digests: true });
    await using reader = await openImage(path);
    await expectError(reader.verify({ signal: AbortSignal.abort() }), 'CANCELLED');
    const abort = new AbortController();
    const verifying = reader.verify({ signal: abort.signal });
    abort.abort();
    await expectError(verifying, 'CANCELLED');
  });

  it('takes a digest that is none for damage', async () => {
    await using folder = await temporaryFolder();
    const path = await image(folder, { digests: true });
    await edit(path, (manifest: { blocks?: { digest?: string }[] }) => {
      for (const block of manifest.blocks ?? []) block.digest = 'something else';
    });
    await expectError(verify(path), 'IMAGE_INVALID', 'pc.ram, /rom@etc/acpi/tables');
  });
});
