/** Thousands of mapped files, and how many descriptors they hold. */
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { expect, test } from 'vitest';
import { fromQemu, openImage } from '../../lib/image/index.ts';
import { native } from '../../lib/native/index.ts';
import type { NativeMapping } from '../../lib/native/memory.ts';
import { chunks, smallStream } from '../image/stream.ts';
import { temporaryFolder } from '../image/support.ts';

const PAGE = 4096n;
const BLOCKS = 2000;
/** Idle ones, their folder's, and those of operations that run. */
const MOST = 150;

const descriptors = async (): Promise<number> => (await readdir('/proc/self/fd')).length;

test('an image of thousands of blocks is written and read with a bounded number of descriptors', async () => {
  await using folder = await temporaryFolder();
  const before = await descriptors();
  const blocks = Array.from({ length: BLOCKS }, (_value, index) => [`rom${index}`, 2] as const);
  const pages = blocks.flatMap(([block], index) => [
    { block, page: 0, fill: 1 + (index % 255) },
    { block, page: 1 },
  ]);
  const stream = smallStream({ blocks, pages });
  let most = 0;
  const watched = async function* (): AsyncGenerator<Uint8Array> {
    for await (const chunk of chunks(
      stream.subarray(0, stream.length >> 1),
      stream.subarray(stream.length >> 1),
    )) {
      yield chunk;
      most = Math.max(most, await descriptors());
    }
  };
  await fromQemu(watched(), folder.at('vm'));
  await using image = await openImage(folder.at('vm'));
  most = Math.max(most, await descriptors());
  expect(image.blocks).toHaveLength(BLOCKS);
  expect(most - before).toBeLessThan(MOST);
  // Read through mappings and holes: the first are closed by now, the last open.
  for (const index of [0, 1, BLOCKS - 1]) {
    const { mapping } = image.blocks[index] ?? {};
    const bitmap = native.createBitmap(2);
    bitmap.setRange(0, 2);
    const window = { offset: 0n, length: 2n * PAGE, minZeroRun: PAGE, mergeGap: 0n, mostRead: 1n << 40n };
    expect(await mapping?.classify(bitmap, window)).toMatchObject({ dataPages: 1n, zeroPages: 1n });
  }
});

async function many(folder: string, count: number): Promise<NativeMapping[]> {
  const made: NativeMapping[] = [];
  for (let index = 0; index < count; index++)
    made.push(await native.mapFile({ path: `${folder}/${index}`, length: 4n * PAGE, mode: 'create' }));
  return made;
}

test('a file that was closed meanwhile is found again when its folder has been renamed', async () => {
  await using folder = await temporaryFolder();
  await mkdir(folder.at('old'));
  const mappings = await many(folder.at('old'), 200);
  await rename(folder.at('old'), folder.at('new'));
  for (const mapping of mappings) await mapping.sync();
  for (const mapping of mappings) await mapping.close();
});

test('a file that was replaced after it was closed is not taken for the one that is mapped', async () => {
  await using folder = await temporaryFolder();
  const mappings = await many(folder.path, 200);
  await rm(folder.at('0'));
  await writeFile(folder.at('0'), Buffer.alloc(16_384));
  await expect(mappings[0]?.sync()).rejects.toMatchObject({
    code: 'IO_ERROR',
    message: expect.stringContaining('removed, moved or replaced'),
  });
  await mappings[199]?.sync();
  const before = await descriptors();
  for (const mapping of mappings) await mapping.close();
  expect(await descriptors()).toBeLessThan(before - 100);
});
