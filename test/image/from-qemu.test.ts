import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { PassThrough, Readable } from 'node:stream';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import { fromQemu, type ImageProgress, openImage } from '../../lib/image/index.ts';
import { chunks, contentOf, expectSmallImage, placesIn, RAM, ROM, smallStream } from './stream.ts';
import { deviceState, expectError, leftOpen, namesIn, PAGE, temporaryFolder } from './support.ts';

describe('from-qemu', () => {
  it('makes an image of a plain QEMU stream', async () => {
    await using folder = await temporaryFolder();
    const stream = smallStream();
    const result = await fromQemu(chunks(stream), folder.at('vm'));
    expect(result).toEqual({
      path: folder.at('vm'),
      machine: 'test-1.0',
      ramBytes: BigInt(6 * PAGE),
      streamBytes: BigInt(stream.length),
      completeness: 'vmdescription',
      coverage: { state: 'whole', missing: 0 },
      removedPartials: [],
    });
    await expectSmallImage(folder.at('vm'));
    await using reader = await openImage(folder.at('vm'));
    expect(reader.ramSection).toEqual({ sectionId: 2, instanceId: 0 });
    expect(reader.manifest.provenance).toEqual({ origin: 'qemu-stream', completeness: 'vmdescription' });
    expect(await namesIn(folder.path)).toEqual(['vm']);
  });

  it('reads the same from a stream split at any byte', async () => {
    await using folder = await temporaryFolder('/dev/shm');
    const stream = smallStream();
    const places = placesIn(stream);
    expect(places.length).toBeGreaterThan(400);
    for (const at of places) {
      const path = folder.at(`vm${at}`);
      await fromQemu(chunks(stream.subarray(0, at), stream.subarray(at)), path);
      await expectSmallImage(path);
    }
  });

  it('reads the same from a pipe that gives one byte at a time', async () => {
    await using folder = await temporaryFolder();
    const stream = smallStream();
    const bytes = Array.from(stream, (byte) => Buffer.of(byte));
    await fromQemu(Readable.from(bytes, { objectMode: true }), folder.at('vm'));
    await expectSmallImage(folder.at('vm'));
  });

  it('reads from another process through a pipe', async () => {
    await using folder = await temporaryFolder();
    await writeFile(folder.at('stream'), smallStream());
    const cat = spawn('dd', [`if=${folder.at('stream')}`, 'bs=7', 'status=none'], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await fromQemu(cat.stdout, folder.at('vm'));
    await expectSmallImage(folder.at('vm'));
  });

  it('refuses a stream that is cut at any byte, and leaves nothing', async () => {
    await using folder = await temporaryFolder('/dev/shm');
    const stream = smallStream();
    for (const at of placesIn(stream)) {
      await expectError(fromQemu(chunks(stream.subarray(0, at)), folder.at('vm')), 'STREAM_TRUNCATED');
    }
    expect(await namesIn(folder.path)).toEqual([]);
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it('gives a typed error or an image for a stream with any byte changed', async () => {
    await using folder = await temporaryFolder('/dev/shm');
    const stream = smallStream();
    const places = placesIn(stream);
    const change = fc.record({ at: fc.constantFrom(...places), value: fc.integer({ min: 0, max: 255 }) });
    let count = 0;
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 3 }), async (changes) => {
        const damaged = Buffer.from(stream);
        for (const { at, value } of changes) damaged[at] = value;
        const name = `vm${count++}`;
        const failure = await fromQemu(chunks(damaged), folder.at(name)).then(
          () => undefined,
          (error: unknown) => error,
        );
        if (failure === undefined) await expectOpens(folder.at(name));
        else expect(failure).toBeInstanceOf(MigrationError);
        const names = await namesIn(folder.path);
        expect(names.includes(name)).toBe(failure === undefined);
        expect(names.filter((found) => found.startsWith('.'))).toEqual([]);
      }),
      { numRuns: 400 },
    );
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it.each([
    ['nothing', Buffer.of(), 'STREAM_TRUNCATED'],
    ['random bytes', randomBytes(1 << 16), 'STREAM_ERROR'],
    ['a gzip file', Buffer.from('1f8b0800000000000003', 'hex'), 'STREAM_ERROR'],
    ['text', Buffer.from('QEMU emulator version 7.2'), 'STREAM_ERROR'],
  ] as const)('refuses %s', async (_what, bytes, code) => {
    await using folder = await temporaryFolder();
    await expectError(fromQemu(chunks(bytes), folder.at('vm')), code);
    expect(await namesIn(folder.path)).toEqual([]);
  });

  it('names return-path when the stream ends after the command that opens it', async () => {
    await using folder = await temporaryFolder();
    const stream = smallStream();
    const ram = stream.indexOf(Buffer.of(0x01, 0, 0, 0, 2));
    const command = Buffer.of(0x08, 0, 1, 0, 0);
    const bytes = Buffer.concat([stream.subarray(0, ram), command]);
    await expectError(fromQemu(chunks(bytes), folder.at('vm')), 'STREAM_ERROR', 'return-path');
  });

  it('refuses chunks that are no bytes', async () => {
    await using folder = await temporaryFolder();
    const input = Readable.from([smallStream()]).setEncoding('latin1');
    await expectError(fromQemu(input, folder.at('vm')), 'INVALID_ARGUMENT', 'set no encoding');
    expect(await namesIn(folder.path)).toEqual([]);
  });

  it('refuses a stream without a VMDESCRIPTION unless it is told to accept that', async () => {
    await using folder = await temporaryFolder();
    const after = deviceState();
    const stream = smallStream({ after: after.subarray(0, after.lastIndexOf(0x06)) });
    const says = ['suppress-vmdesc', 'acceptUnproven'];
    await expectError(fromQemu(chunks(stream), folder.at('vm')), 'STREAM_TRUNCATED', ...says);
    expect(await namesIn(folder.path)).toEqual([]);
    const result = await fromQemu(chunks(stream), folder.at('vm'), { acceptUnproven: true });
    expect(result.completeness).toBe('none');
    await using reader = await openImage(folder.at('vm'));
    expect(reader.manifest.provenance.completeness).toBe('none');
  });

  it('keeps the RAM of a page that is sent again: the last one counts', async () => {
    await using folder = await temporaryFolder();
    const pages = [
      { block: RAM, page: 0, fill: 1 },
      { block: RAM, page: 1, fill: 2 },
      { block: RAM, page: 0, fill: 3 },
      { block: RAM, page: 1 },
    ];
    await fromQemu(chunks(smallStream({ blocks: [[RAM, 2]], pages })), folder.at('vm'));
    expect((await readFile(folder.at('vm/ram-0.bin'))).equals(contentOf(RAM, 2, pages))).toBe(true);
  });

  it('leaves an image that exists as it is, and tells the writer of the pipe', async () => {
    await using folder = await temporaryFolder();
    await writeFile(folder.at('vm'), 'precious');
    const input = new PassThrough();
    await expectError(fromQemu(input, folder.at('vm')), 'IMAGE_EXISTS');
    expect(await readFile(folder.at('vm'), 'utf8')).toBe('precious');
    expect(input.destroyed).toBe(true);
  });

  it('ends at once when its signal is aborted, on a pipe that gives nothing more', async () => {
    await using folder = await temporaryFolder();
    const input = new PassThrough();
    input.write(smallStream().subarray(0, 5000));
    const abort = new AbortController();
    const reading = fromQemu(input, folder.at('vm'), { signal: abort.signal });
    while ((await namesIn(folder.path)).length === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    abort.abort(new Error('Ctrl-C'));
    const error = await expectError(reading, 'CANCELLED');
    expect(error.cause).toMatchObject({ message: 'Ctrl-C' });
    expect(input.destroyed).toBe(true);
    expect(await namesIn(folder.path)).toEqual([]);
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it('lets an iterator that it does not read to the end clean up', async () => {
    await using folder = await temporaryFolder();
    let cleaned = false;
    async function* input(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield Buffer.from('no stream');
      } finally {
        cleaned = true;
      }
    }
    await expectError(fromQemu(input(), folder.at('vm')), 'STREAM_ERROR');
    expect(cleaned).toBe(true);
  });

  it.each([
    ['before', (abort: AbortController) => abort.abort()],
    ['during', (abort: AbortController) => void setImmediate(() => abort.abort())],
  ])('leaves nothing when its signal is aborted %s the commit', async (_when, schedule) => {
    await using folder = await temporaryFolder();
    const abort = new AbortController();
    const onProgress = ({ phase }: ImageProgress) => phase === 'commit' && schedule(abort);
    const reading = fromQemu(chunks(smallStream()), folder.at('vm'), { signal: abort.signal, onProgress });
    await expectError(reading, 'CANCELLED');
    expect(await namesIn(folder.path)).toEqual([]);
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it('says that the input failed, with its reason', async () => {
    await using folder = await temporaryFolder();
    const input = new PassThrough();
    const reading = fromQemu(input, folder.at('vm'));
    input.write(smallStream().subarray(0, 100));
    setImmediate(() => input.destroy(new Error('the disk was pulled')));
    await expectError(reading, 'IO_ERROR', 'the disk was pulled');
    expect(await namesIn(folder.path)).toEqual([]);
  });

  it('reports every phase in order, up to the total', async () => {
    await using folder = await temporaryFolder();
    const seen: ImageProgress[] = [];
    const stream = smallStream();
    const parts = Array.from({ length: 100 }, (_value, index) => {
      const size = Math.ceil(stream.length / 100);
      return stream.subarray(index * size, (index + 1) * size);
    });
    await fromQemu(chunks(...parts), folder.at('vm'), { onProgress: (progress) => seen.push(progress) });
    expect([...new Set(seen.map(({ phase }) => phase))]).toEqual(['setup', 'ram', 'device-state', 'commit']);
    const total = BigInt(6 * PAGE);
    expect(seen.at(-1)).toEqual({ phase: 'commit', done: total, total, streamBytes: BigInt(stream.length) });
  });
});

describe('from-qemu with x-ignore-shared', () => {
  const addresses = [0n, 0xfffc0000n];
  const romOnly = [
    { block: ROM, page: 0 },
    { block: ROM, page: 1, fill: 7 },
  ];
  const stream = smallStream({ addresses, pages: romOnly });

  it('says which option names the RAM that is not in the stream', async () => {
    await using folder = await temporaryFolder();
    await expectError(
      fromQemu(chunks(stream), folder.at('vm')),
      'INVALID_ARGUMENT',
      'sharedRam',
      `no page of ${RAM}:`,
    );
    expect(await namesIn(folder.path)).toEqual([]);
  });

  it('maps the shared file in place and records it, with the guest addresses', async () => {
    await using folder = await temporaryFolder();
    const shared = folder.at('shared.ram');
    await writeFile(shared, Buffer.alloc(4 * PAGE, 9));
    await fromQemu(chunks(stream), folder.at('vm'), { sharedRam: { [RAM]: shared } });
    await using reader = await openImage(folder.at('vm'), { ramFiles: { [RAM]: shared } });
    expect(reader.manifest.blocks).toMatchObject([
      { name: RAM, external: { path: shared }, guestAddress: 0n },
      { name: ROM, file: 'ram-1.bin', guestAddress: 0xfffc0000n },
    ]);
    expect(await readFile(folder.at('vm/before.bin'), 'latin1')).not.toContain('x-ignore-shared');
    const { ino } = await stat(shared, { bigint: true });
    expect(reader.manifest.blocks[0]?.external?.inode).toBe(ino);
    expect((await readFile(shared)).equals(Buffer.alloc(4 * PAGE, 9))).toBe(true);
  });

  it('never removes or changes the shared file when it fails', async () => {
    await using folder = await temporaryFolder();
    const shared = folder.at('shared.ram');
    await writeFile(shared, Buffer.alloc(4 * PAGE, 9));
    const cut = chunks(stream.subarray(0, -1));
    await expectError(fromQemu(cut, folder.at('vm'), { sharedRam: { [RAM]: shared } }), 'STREAM_TRUNCATED');
    expect(await namesIn(folder.path)).toEqual(['shared.ram']);
    expect((await readFile(shared)).equals(Buffer.alloc(4 * PAGE, 9))).toBe(true);
  });

  it('refuses a shared file that is too short', async () => {
    await using folder = await temporaryFolder();
    const shared = folder.at('shared.ram');
    await writeFile(shared, Buffer.alloc(3 * PAGE));
    const reading = fromQemu(chunks(stream), folder.at('vm'), { sharedRam: { [RAM]: shared } });
    await expectError(reading, 'BLOCK_MISMATCH', `${3 * PAGE} bytes`, `${4 * PAGE}`);
  });

  it('refuses a shared file for a block whose pages are in the stream', async () => {
    await using folder = await temporaryFolder();
    const shared = folder.at('shared.ram');
    await writeFile(shared, Buffer.alloc(4 * PAGE, 9));
    const sharedRam = { [RAM]: shared };
    const plain = fromQemu(chunks(smallStream()), folder.at('vm'), { sharedRam });
    await expectError(plain, 'INVALID_ARGUMENT', 'without x-ignore-shared');
    const both = fromQemu(chunks(smallStream({ addresses })), folder.at('vm'), { sharedRam });
    await expectError(both, 'STREAM_ERROR', RAM);
    expect((await readFile(shared)).equals(Buffer.alloc(4 * PAGE, 9))).toBe(true);
  });

  it('reads a stream that has no pages at all', async () => {
    await using folder = await temporaryFolder();
    const shared = folder.at('shared.ram');
    await writeFile(shared, Buffer.alloc(4 * PAGE, 9));
    const empty = smallStream({ blocks: [[RAM, 4]], pages: [], addresses });
    const result = await fromQemu(chunks(empty), folder.at('vm'), { sharedRam: { [RAM]: shared } });
    expect(result.ramBytes).toBe(0n);
  });

  it('needs no shared file when all pages are in the stream', async () => {
    await using folder = await temporaryFolder();
    await fromQemu(chunks(smallStream({ addresses })), folder.at('vm'));
    await expectSmallImage(folder.at('vm'));
  });
});

async function expectOpens(path: string): Promise<void> {
  const reader = await openImage(path);
  await reader.close();
}
