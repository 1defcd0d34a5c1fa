import { readFile } from 'node:fs/promises';
import { Writable } from 'node:stream';
import { expect, it } from 'vitest';
import { fromQemu, toQemu } from '../../lib/image/index.ts';
import { RAM, smallStream } from './stream.ts';
import { deviceState, PAGE, temporaryFolder, u32, u64 } from './support.ts';

const MIB = 2 ** 20;
const RAM_MIB = 512;

/** Memory of this process's own: RAM files that are mapped do not count. */
async function ownBytes(): Promise<number> {
  const status = await readFile('/proc/self/status', 'utf8');
  return 1024 * Number(/^RssAnon:\s+(\d+) kB$/m.exec(status)?.[1]);
}

/** RAM of 512 MiB in one PART section: a MiB of data, a MiB of zero pages, and so on. The buffer is used again and again. */
async function* largeStream(onChunk: () => Promise<void>): AsyncGenerator<Uint8Array> {
  const empty = smallStream({ blocks: [[RAM, (RAM_MIB * MIB) / PAGE]], pages: [], after: Buffer.of() });
  // The two sections of a stream without pages are 18 bytes each: type, id, EOS, footer.
  yield empty.subarray(0, -36);
  yield Buffer.concat([Buffer.of(0x03), u32(2)]);
  const data = Buffer.alloc(256 * (8 + PAGE), 0xee);
  const zero = Buffer.alloc(256 * 9);
  yield Buffer.concat([u64(0x02n), Buffer.of(RAM.length), Buffer.from(RAM), Buffer.of(0)]);
  for (let page = 0; page < (RAM_MIB * MIB) / PAGE; page += 512) {
    for (let i = 0; i < 256; i++) {
      data.writeBigUInt64BE(BigInt((page + i) * PAGE) | 0x28n, i * (8 + PAGE));
      zero.writeBigUInt64BE(BigInt((page + 256 + i) * PAGE) | 0x22n, i * 9);
    }
    yield data;
    yield zero;
    await onChunk();
  }
  yield Buffer.concat([u64(0x10n), Buffer.of(0x7e), u32(2), deviceState()]);
}

it('converts a VM of 512 MiB both ways in memory that is small beside it', async () => {
  await using folder = await temporaryFolder('/dev/shm');
  const before = await ownBytes();
  let peak = before;
  const sample = async () => {
    peak = Math.max(peak, await ownBytes());
  };
  await fromQemu(largeStream(sample), folder.at('vm'));
  const grownReading = peak - before;
  peak = before;
  let written = 0;
  const sink = new Writable({
    write: (chunk: Buffer, _encoding, done) => {
      written += chunk.length;
      void sample().then(() => done());
    },
  });
  await toQemu(folder.at('vm'), sink);
  expect(written).toBeGreaterThan((RAM_MIB / 2) * MIB);
  const limit = (RAM_MIB / 8) * MIB;
  expect(grownReading).toBeLessThan(limit);
  expect(peak - before).toBeLessThan(limit);
});
