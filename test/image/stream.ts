/** Small plain QEMU streams, built field by field and not with the product's encoders. */
import { readFile } from 'node:fs/promises';
import { expect } from 'vitest';
import { BEFORE, counted, deviceState, PAGE, u32, u64 } from './support.ts';

export interface Page {
  readonly block: string;
  readonly page: number;
  /** A page of this byte; undefined: a ZERO record. */
  readonly fill?: number;
}

export interface SmallStream {
  /** Name and pages of each block. */
  readonly blocks?: readonly (readonly [string, number])[];
  readonly pages?: readonly Page[];
  /** Written with x-ignore-shared: each block's guest address. */
  readonly addresses?: readonly bigint[];
  readonly after?: Buffer;
}

export const RAM = 'pc.ram';
export const ROM = '/rom@etc/acpi/tables';
const BLOCKS = [
  [RAM, 4],
  [ROM, 2],
] as const;
const EVERY_PAGE: readonly Page[] = [
  { block: RAM, page: 0, fill: 0xa5 },
  { block: RAM, page: 1 },
  { block: RAM, page: 2 },
  { block: ROM, page: 0 },
  { block: ROM, page: 1, fill: 0x5a },
  { block: RAM, page: 3 },
];
const CAPABILITIES = Buffer.concat([
  Buffer.of(0x05),
  counted('configuration/capabilities'),
  u32(1),
  u32(1),
  counted('x-ignore-shared'),
]);
const SECTION = u32(2);
const EOS_FOOTER = Buffer.concat([u64(0x10n), Buffer.of(0x7e), SECTION]);

/** By default: two blocks, every page once, in two sections. */
export function smallStream(options: SmallStream = {}): Buffer {
  const { blocks = BLOCKS, pages = EVERY_PAGE, addresses, after = deviceState() } = options;
  const total = blocks.reduce((sum, [, count]) => sum + BigInt(count * PAGE), 0n);
  const half = Math.ceil(pages.length / 2);
  return Buffer.concat([
    BEFORE,
    addresses === undefined ? Buffer.of() : CAPABILITIES,
    Buffer.concat([Buffer.of(0x01), SECTION, counted('ram'), u32(0), u32(4), u64(total | 0x04n)]),
    ...blocks.map(([name, count], index) => {
      const address = addresses === undefined ? Buffer.of() : u64(addresses[index] ?? 0n);
      return Buffer.concat([counted(name), u64(BigInt(count * PAGE)), address]);
    }),
    EOS_FOOTER,
    Buffer.concat([Buffer.of(0x02), SECTION, records(pages.slice(0, half)), EOS_FOOTER]),
    Buffer.concat([Buffer.of(0x03), SECTION, records(pages.slice(half)), EOS_FOOTER]),
    after,
  ]);
}

function records(pages: readonly Page[]): Buffer {
  return Buffer.concat(
    pages.map(({ block, page, fill }, index) => {
      const again = pages[index - 1]?.block === block;
      const flags = (fill === undefined ? 0x02n : 0x08n) | (again ? 0x20n : 0n);
      const content = fill === undefined ? Buffer.of(0) : Buffer.alloc(PAGE, fill);
      return Buffer.concat([u64(BigInt(page * PAGE) | flags), again ? Buffer.of() : counted(block), content]);
    }),
  );
}

/** The content that the pages of a small stream give a block. */
export function contentOf(block: string, count: number, pages: readonly Page[] = EVERY_PAGE): Buffer {
  const content = Buffer.alloc(count * PAGE);
  for (const { page, fill } of pages.filter((page) => page.block === block)) {
    content.fill(fill ?? 0, page * PAGE, (page + 1) * PAGE);
  }
  return content;
}

/** The image must hold what the small stream without options says. */
export async function expectSmallImage(path: string): Promise<void> {
  expect((await readFile(`${path}/ram-0.bin`)).equals(contentOf(RAM, 4))).toBe(true);
  expect((await readFile(`${path}/ram-1.bin`)).equals(contentOf(ROM, 2))).toBe(true);
  expect(await readFile(`${path}/before.bin`)).toEqual(BEFORE);
  expect(await readFile(`${path}/after.bin`)).toEqual(deviceState());
}

/** Every place outside of page data, and a few within. */
export function placesIn(stream: Buffer): number[] {
  const places: number[] = [];
  for (let at = 0; at < stream.length; at++) {
    const inPage = stream[at] === stream[at - 8] && [0xa5, 0x5a].includes(stream[at] ?? 0);
    if (!inPage || at % 997 === 0) places.push(at);
  }
  return places;
}

export async function* chunks(...parts: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  for (const part of parts) yield part;
}
