/**
 * A VM that never ran: a plain QEMU migration stream with RAM of a chosen kind, for demos, benchmarks and tests on machines without
 * QEMU. `fromQemu(syntheticStream(blocks), path)` makes an image of it.
 */
import { randomFillSync } from 'node:crypto';
import { sealDeviceState, streamHeader } from 'rdma-migrate';

const PAGE = 4096;
const BATCH_PAGES = 1024;
const SECTION_ID = 2;

/** Bits in the low bits of a page record's address (QEMU's RAM_SAVE_FLAG_*). */
const FLAG = { zero: 0x02n, memSize: 0x04n, page: 0x08n, eos: 0x10n, continue: 0x20n } as const;

/**
 * What a block holds. `random`: every page differs. `zero`: nothing. `sparse`: 1 MiB of data in every 16 MiB, the rest zero. `mixed`: data
 * and zero pages in runs of 1 to 700 pages, and single ones. Zero pages are sent as QEMU sends them, and no memory is touched for them.
 */
export type Fill = 'random' | 'zero' | 'sparse' | 'mixed';

export interface SyntheticBlock {
  readonly name: string;
  /** Bytes, a multiple of 4096. */
  readonly length: bigint;
  readonly fill: Fill;
}

type PageKind = 'data' | 'zero';

/** The stream, in pieces of a few MiB. */
export async function* syntheticStream(blocks: readonly SyntheticBlock[]): AsyncGenerator<Uint8Array> {
  yield header(blocks);
  yield Buffer.concat([Buffer.from([0x03]), u32(SECTION_ID)]);
  for (const block of blocks) yield* pages(block);
  yield Buffer.concat([u64(FLAG.eos), footer(), sealDeviceState({ pageSize: PAGE })]);
}

function header(blocks: readonly SyntheticBlock[]): Buffer {
  const total = blocks.reduce((sum, { length }) => sum + length, 0n);
  return Buffer.concat([
    streamHeader({ machine: 'synthetic', pageSize: PAGE }),
    Buffer.from([0x01]),
    u32(SECTION_ID),
    counted('ram'),
    u32(0),
    u32(4),
    u64(total | FLAG.memSize),
    ...blocks.flatMap(({ name, length }) => [counted(name), u64(length)]),
    u64(FLAG.eos),
    footer(),
  ]);
}

function* pages({ name, length, fill }: SyntheticBlock): Generator<Uint8Array> {
  const count = Number(length / BigInt(PAGE));
  const kinds = kindsOf(fill);
  // The first 8 bytes of a page are its own; the rest repeats every 1024 pages.
  const noise = randomFillSync(Buffer.alloc(BATCH_PAGES * PAGE));
  let first = true;
  for (let start = 0; start < count; start += BATCH_PAGES) {
    const parts: Uint8Array[] = [];
    for (let page = start; page < Math.min(count, start + BATCH_PAGES); page++) {
      const kind = kinds(page);
      const flag = kind === 'data' ? FLAG.page : FLAG.zero;
      parts.push(u64((BigInt(page) * BigInt(PAGE)) | flag | (first ? 0n : FLAG.continue)));
      if (first) parts.push(counted(name));
      first = false;
      parts.push(kind === 'data' ? numbered(noise, page) : Buffer.from([0]));
    }
    yield Buffer.concat(parts);
  }
}

function numbered(noise: Buffer, page: number): Buffer {
  const bytes = noise.subarray((page % BATCH_PAGES) * PAGE, (page % BATCH_PAGES) * PAGE + PAGE);
  bytes.writeBigUInt64LE(BigInt(page) + 1n);
  return bytes;
}

function kindsOf(fill: Fill): (page: number) => PageKind {
  switch (fill) {
    case 'random':
      return () => 'data';
    case 'zero':
      return () => 'zero';
    case 'sparse':
      return (page) => (page % 4096 < 256 ? 'data' : 'zero');
    case 'mixed':
      return mixedKinds();
  }
}

function mixedKinds(): (page: number) => PageKind {
  let kind: PageKind = 'data';
  let until = 0;
  let seed = 12345;
  return (page) => {
    if (page >= until) {
      seed = (seed * 1103515245 + 12345) % 2147483648;
      until = page + (seed % 3 === 0 ? 1 : 1 + (seed % 700));
      kind = kind === 'data' ? 'zero' : 'data';
    }
    return kind;
  };
}

function footer(): Buffer {
  return Buffer.concat([Buffer.from([0x7e]), u32(SECTION_ID)]);
}

function counted(name: string): Buffer {
  return Buffer.concat([Buffer.from([name.length]), Buffer.from(name, 'latin1')]);
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

function u64(value: bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(value);
  return bytes;
}
