import { readFile, writeFile } from 'node:fs/promises';
import { PassThrough, Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import {
  fromQemu,
  type ImageProgress,
  openImage,
  type ToQemuOptions,
  toQemu,
} from '../../lib/image/index.ts';
import { readStream } from '../support/qemu-stream.ts';
import { chunks, contentOf, expectSmallImage, RAM, ROM, smallStream } from './stream.ts';
import { deviceState, expectError, leftOpen, PAGE, temporaryFolder } from './support.ts';

/** Keeps what is written to it, some milliseconds later. */
class Sink extends Writable {
  readonly parts: Buffer[] = [];
  readonly #delay: number;
  largest = 0;

  constructor(delay = 0) {
    super();
    this.#delay = delay;
  }

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    this.largest = Math.max(this.largest, this.writableLength);
    // A copy only now: bytes that change before the write is over must be seen.
    setTimeout(() => {
      this.parts.push(Buffer.from(chunk));
      done();
    }, this.#delay);
  }

  get bytes(): Buffer {
    return Buffer.concat(this.parts);
  }
}

async function streamOf(path: string, options: ToQemuOptions = {}): Promise<Buffer> {
  const sink = new Sink();
  const { streamBytes } = await toQemu(path, sink, options);
  expect(streamBytes).toBe(BigInt(sink.bytes.length));
  return sink.bytes;
}

describe('to-qemu', () => {
  it('writes a stream with every page once, followed by the device state', async () => {
    await using folder = await temporaryFolder();
    await fromQemu(chunks(smallStream()), folder.at('vm'));
    const stream = readStream(await streamOf(folder.at('vm')));
    expect(stream).toMatchObject({ machine: 'test-1.0', capabilities: [], sectionId: 2 });
    expect(stream.blocks.map(({ name, length }) => [name, length])).toEqual([
      [RAM, BigInt(4 * PAGE)],
      [ROM, BigInt(2 * PAGE)],
    ]);
    for (const [name, count] of [
      [RAM, 4],
      [ROM, 2],
    ] as const) {
      const pages = stream.pages.filter(({ block }) => block === name);
      const content = Buffer.concat(pages.map(({ data }) => data ?? Buffer.alloc(PAGE)));
      expect(pages.map(({ offset }) => Number(offset) / PAGE)).toEqual([...Array(count).keys()]);
      expect(content.equals(contentOf(name, count))).toBe(true);
    }
    expect(stream.vmDescription).toMatchObject({ page_size: PAGE });
  });

  it('goes there and back without a change', async () => {
    await using folder = await temporaryFolder();
    await fromQemu(chunks(smallStream()), folder.at('a'));
    const first = await streamOf(folder.at('a'));
    await fromQemu(chunks(first), folder.at('b'));
    await expectSmallImage(folder.at('b'));
    expect(await streamOf(folder.at('b'))).toEqual(first);
  });

  it('waits for a slow reader: no more than one piece is under way', async () => {
    await using folder = await temporaryFolder();
    const pages = Array.from({ length: 2048 }, (_value, page) => ({
      block: RAM,
      page,
      fill: 1 + (page % 255),
    }));
    await fromQemu(chunks(smallStream({ blocks: [[RAM, 2048]], pages })), folder.at('vm'));
    const sink = new Sink(20);
    await toQemu(folder.at('vm'), sink);
    expect(sink.largest).toBeLessThanOrEqual(2 ** 20);
    await fromQemu(chunks(sink.bytes), folder.at('b'));
    const content = contentOf(RAM, 2048, pages);
    expect((await readFile(folder.at('b/ram-0.bin'))).equals(content)).toBe(true);
  });

  it('reports every phase in order, up to the total', async () => {
    await using folder = await temporaryFolder();
    await fromQemu(chunks(smallStream()), folder.at('vm'));
    const seen: ImageProgress[] = [];
    await streamOf(folder.at('vm'), { onProgress: (progress) => seen.push(progress) });
    expect(seen.map(({ phase }) => phase)).toEqual(['setup', 'ram', 'device-state', 'commit']);
    expect(seen.at(-1)).toMatchObject({ done: BigInt(6 * PAGE), total: BigInt(6 * PAGE) });
  });

  it('says that the reader of the pipe went away', async () => {
    await using folder = await temporaryFolder();
    await fromQemu(chunks(smallStream()), folder.at('vm'));
    const gone = new Writable({
      write: (_chunk, _encoding, done) => done(Object.assign(new Error('write EPIPE'), { code: 'EPIPE' })),
    });
    await expectError(toQemu(folder.at('vm'), gone), 'CONNECTION_CLOSED', 'EPIPE', 'after 0 bytes');
    const destroyed = new PassThrough();
    destroyed.destroy();
    await expectError(toQemu(folder.at('vm'), destroyed), 'CONNECTION_CLOSED');
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it('says that the disk of the output is full', async () => {
    await using folder = await temporaryFolder();
    await fromQemu(chunks(smallStream()), folder.at('vm'));
    const full = new Writable({
      write: (_chunk, _encoding, done) => done(Object.assign(new Error('ENOSPC'), { code: 'ENOSPC' })),
    });
    await expectError(toQemu(folder.at('vm'), full), 'DISK_FULL', 'free space');
  });

  it('ends at once when its signal is aborted, on an output that takes nothing', async () => {
    await using folder = await temporaryFolder();
    await fromQemu(chunks(smallStream()), folder.at('vm'));
    const stuck = new Writable({ write: () => undefined });
    const abort = new AbortController();
    const writing = toQemu(folder.at('vm'), stuck, { signal: abort.signal });
    setTimeout(() => abort.abort(), 20);
    await expectError(writing, 'CANCELLED');
    expect(await leftOpen(folder.path)).toEqual([]);
  });
});

describe('to-qemu with x-ignore-shared', () => {
  it('leaves out the pages of the named block and writes capability and addresses', async () => {
    await using folder = await temporaryFolder();
    const addresses = [0x1000n, 0xfffc0000n];
    await fromQemu(chunks(smallStream({ addresses })), folder.at('vm'));
    const stream = readStream(await streamOf(folder.at('vm'), { ignoreShared: [RAM] }));
    expect(stream.capabilities).toEqual(['x-ignore-shared']);
    expect(stream.blocks.map(({ guestAddress }) => guestAddress)).toEqual(addresses);
    expect(stream.pages.map(({ block }) => block)).toEqual([ROM, ROM]);
    expect(stream.vmDescription).toMatchObject({ page_size: PAGE });
  });

  it('comes back as the same VM with the shared file', async () => {
    await using folder = await temporaryFolder();
    await fromQemu(chunks(smallStream({ addresses: [0n, 0n] })), folder.at('a'));
    const stream = await streamOf(folder.at('a'), { ignoreShared: [RAM] });
    await fromQemu(chunks(stream), folder.at('b'), { sharedRam: { [RAM]: folder.at('a/ram-0.bin') } });
    const ramFiles = { [RAM]: folder.at('a/ram-0.bin') };
    await using reader = await openImage(folder.at('b'), { ramFiles });
    await using original = await openImage(folder.at('a'));
    for (const index of [0, 1]) {
      expect(await reader.blocks[index]?.mapping.digest()).toBe(
        await original.blocks[index]?.mapping.digest(),
      );
    }
    expect(await readFile(folder.at('b/after.bin'))).toEqual(deviceState());
  });

  it('says so when the guest address is not known, and takes it from the caller', async () => {
    await using folder = await temporaryFolder();
    await fromQemu(chunks(smallStream()), folder.at('vm'));
    const ignoreShared = [RAM];
    await expectError(streamOf(folder.at('vm'), { ignoreShared }), 'INVALID_ARGUMENT', 'guest address', RAM);
    const stream = await streamOf(folder.at('vm'), { ignoreShared, guestAddresses: { [RAM]: 0n } });
    expect(readStream(stream).blocks.map(({ guestAddress }) => guestAddress)).toEqual([0n, 0n]);
  });

  it('refuses a block that the VM does not have', async () => {
    await using folder = await temporaryFolder();
    await fromQemu(chunks(smallStream()), folder.at('vm'));
    await expectError(streamOf(folder.at('vm'), { ignoreShared: ['ram'] }), 'INVALID_ARGUMENT', "'ram'", RAM);
  });

  it('leaves out every block when all are named', async () => {
    await using folder = await temporaryFolder();
    await fromQemu(chunks(smallStream({ addresses: [0n, 0n] })), folder.at('vm'));
    const stream = readStream(await streamOf(folder.at('vm'), { ignoreShared: [RAM, ROM] }));
    expect(stream.pages).toEqual([]);
  });
});

describe('to-qemu of an image with RAM outside', () => {
  it('reads the RAM where the caller says it is', async () => {
    await using folder = await temporaryFolder();
    const ramFiles = { [RAM]: folder.at('vm.ram') };
    await fromQemu(chunks(smallStream()), folder.at('vm'), { ramFiles });
    const first = await streamOf(folder.at('vm'), { ramFiles });
    await writeFile(folder.at('moved.ram'), await readFile(folder.at('vm.ram')));
    const second = await streamOf(folder.at('vm'), { ramFiles: { [RAM]: folder.at('moved.ram') } });
    expect(second).toEqual(first);
  });
});
