import { expect, test } from 'vitest';
import { native } from '../../lib/native/index.ts';
import type { NativeMapping, NativePageWriter } from '../../lib/native/memory.ts';
import { failure, MIB, PAGE, pageRecord, writePages } from './support.ts';

const EOS = Buffer.from('0000000000000010', 'hex');

async function twoBlocks(): Promise<{ name: string; mapping: NativeMapping }[]> {
  const names = ['pc.ram', 'vga.vram'];
  return Promise.all(
    names.map(async (name) => ({ name, mapping: await native.mapMemfd({ name, length: MIB }) })),
  );
}

async function closeAll(blocks: readonly { mapping: NativeMapping }[]): Promise<void> {
  await Promise.all(blocks.map(({ mapping }) => mapping.close()));
}

async function drain(writer: NativePageWriter, size: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  const buffer = Buffer.alloc(size);
  for (let done = false; !done; ) {
    const filled = await writer.fill(buffer);
    parts.push(Buffer.from(buffer.subarray(0, filled.length)));
    done = filled.done;
  }
  return Buffer.concat(parts);
}

test('what the writer writes the reader reads, split anywhere', async () => {
  const source = await twoBlocks();
  for (const { mapping } of source) {
    await writePages(
      mapping,
      [1, 2, 77, 255].map((page) => [page, page]),
    );
  }
  const writer = native.createPageWriter(source);
  const stream = await drain(writer, 10_000);
  expect(writer.pagesWritten).toBe(512n);
  expect(writer.zeroPages).toBe(504n);
  expect(stream.length).toBe(8 * (8 + PAGE) + 504 * 9 + 'pc.ram'.length + 'vga.vram'.length + 2);

  const target = await twoBlocks();
  const reader = native.createPageReader(target);
  const bytes = Buffer.concat([stream, EOS, Buffer.from('footer')]);
  let at = 0;
  for (let size = 1, done = false; !done; size = (size * 7) % 5003) {
    const end = Math.min(bytes.length, at + size);
    const progress = await reader.push(bytes.subarray(0, end), at);
    at += progress.consumed;
    done = progress.done;
  }
  expect(at).toBe(bytes.length - 'footer'.length);
  expect(reader.pagesRead).toBe(512n);
  expect(reader.zeroPages).toBe(504n);
  for (const [i, { mapping }] of source.entries()) {
    expect(await target[i]?.mapping.digest()).toBe(await mapping.digest());
  }
  await closeAll([...source, ...target]);
});

test.each([
  ['an unknown block', pageRecord(0, 1, 'pc.rom'), /pc\.rom/],
  ['a page past the end of its block', pageRecord(256, 1, 'pc.ram'), /1048576/],
  ['CONTINUE without a block', pageRecord(0, 1), /continues a block/],
  ['XBZRLE', Buffer.from('0000000000000040', 'hex'), /xbzrle capability/],
  ['a compressed page', Buffer.from('0000000000000100', 'hex'), /compress capability/],
  ['a hook', Buffer.from('0000000000000080', 'hex'), /exec:/],
])('%s is a STREAM_ERROR that says so', async (_, bytes, message) => {
  const blocks = await twoBlocks();
  const reader = native.createPageReader(blocks);
  const error = await failure(reader.push(bytes, 0));
  expect(error).toMatchObject({ code: 'STREAM_ERROR' });
  expect(error.message).toMatch(message);
  expect(await failure(reader.push(EOS, 0))).toMatchObject({ code: 'STREAM_ERROR' });
  await closeAll(blocks);
});

test('one call at a time, and the reader goes on after a refused one', async () => {
  const blocks = await twoBlocks();
  const reader = native.createPageReader(blocks);
  const writer = native.createPageWriter(blocks);
  const first = reader.push(pageRecord(0, 1, 'pc.ram'), 0);
  expect(await failure(reader.push(EOS, 0))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  await first;
  expect(await reader.push(EOS, 0)).toEqual({ consumed: 8, done: true });
  const filling = writer.fill(new Uint8Array(8192));
  expect(await failure(writer.fill(new Uint8Array(8192)))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  await filling;
  await closeAll(blocks);
});

test('bad blocks, buffers and offsets are refused', async () => {
  const blocks = await twoBlocks();
  const [block] = blocks;
  const make = native.createPageReader as (blocks: unknown) => unknown;
  const bad = [undefined, [1], [{ name: 'x' }], [{ name: 'x', mapping: {} }], [{ mapping: block?.mapping }]];
  for (const value of [...bad, [block, block]]) expect(() => make(value)).toThrow();
  const reader = native.createPageReader(blocks);
  expect(await failure(reader.push(new Uint8Array(4), 5))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  await failure(reader.push(new Uint16Array(4) as unknown as Uint8Array, 0));
  expect(await reader.push(new Uint8Array(0), 0)).toEqual({ consumed: 0, done: false });
  const writer = native.createPageWriter(blocks);
  expect(await failure(writer.fill(new Uint8Array(4359)))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  await closeAll(blocks);
});

test('a reader and a writer do not keep a mapping open', async () => {
  const blocks = await twoBlocks();
  const reader = native.createPageReader(blocks);
  const writer = native.createPageWriter(blocks);
  await closeAll(blocks);
  expect(await failure(reader.push(EOS, 0))).toMatchObject({ code: 'CLOSED' });
  expect(await failure(writer.fill(new Uint8Array(8192)))).toMatchObject({ code: 'CLOSED' });
});
