/** One MigrationSource that sends an image, observed: what it does to the image. */
import { createHash } from 'node:crypto';
import { readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect } from 'vitest';
import {
  type ErrorCode,
  fromQemu,
  type MigrationError,
  MigrationSource,
  openImage,
  type Phase,
  type SourceOptions,
} from '../../lib/index.ts';
import { beginning, blockList, eos, footer, header, startHeader } from '../protocol/streams.ts';
import { u64s } from './raw-control.ts';
import { expectError, failureOf } from './receiving.ts';
import { SMALL_BLOCKS, SMALL_DEVICE_STATE } from './small-vm.ts';
import { temporaryFolder } from './temp.ts';

const PAGE = 4096;

/** Pages of a block with content; all others are zero. */
export interface Content {
  readonly block: string;
  readonly pages: Iterable<number>;
}

export interface PlainVm {
  readonly before: Uint8Array;
  readonly blocks: readonly { readonly name: string; readonly length: bigint }[];
  readonly deviceState: Uint8Array;
  readonly content: readonly Content[];
}

/** A VM as a plain QEMU stream, from which `fromQemu` makes an image. */
export function* plainStream({ before, blocks, deviceState, content }: PlainVm): Generator<Buffer> {
  const start = [before, startHeader().bytes(), blockList(blocks), eos(), footer(), header(3)];
  yield Buffer.concat(start);
  for (const { name, length } of blocks) {
    const written = new Set(content.filter(({ block }) => block === name).flatMap(({ pages }) => [...pages]));
    const records = Array.from({ length: Number(length) / PAGE }, (_, page) =>
      written.has(page) ? pageRecord(name, page) : zeroRecord(name, page),
    );
    yield Buffer.concat(records);
  }
  yield Buffer.concat([eos(), footer(), deviceState]);
}

function pageRecord(block: string, page: number): Buffer {
  const bytes = Buffer.alloc(PAGE, 1 + ((page * 7) % 255));
  bytes.writeUInt32BE(page, 0);
  return Buffer.concat([u64s(BigInt(page * PAGE) | 8n), Buffer.of(block.length), Buffer.from(block), bytes]);
}

function zeroRecord(block: string, page: number): Buffer {
  const word = u64s(BigInt(page * PAGE) | 2n);
  return Buffer.concat([word, Buffer.of(block.length), Buffer.from(block), Buffer.of(0)]);
}

/** The small VM: the first half of its RAM has content, and the ROM. */
export async function smallImage(path: string): Promise<string> {
  const pages = (length: bigint, part: number): number[] =>
    Array.from({ length: Math.floor((Number(length) / PAGE) * part) }, (_, page) => page);
  const [ram, rom] = SMALL_BLOCKS;
  const content = [
    { block: ram.name, pages: pages(ram.length, 0.5) },
    { block: rom.name, pages: pages(rom.length, 1) },
  ];
  const vm = { before: beginning().bytes(), blocks: SMALL_BLOCKS, deviceState: SMALL_DEVICE_STATE, content };
  await fromQemu(asyncOf(plainStream(vm)), path);
  return path;
}

export async function* asyncOf<T>(items: Iterable<T>): AsyncGenerator<T> {
  yield* items;
}

/** SHA-256 of every file of an image, with its size and the time of its last change. */
export async function fingerprint(path: string): Promise<readonly string[]> {
  const names = (await readdir(path)).sort();
  return Promise.all(
    names.map(async (name) => {
      const { size, mtimeMs } = await stat(join(path, name));
      const digest = createHash('sha256').update(await readFile(join(path, name)));
      return `${name} ${size} ${mtimeMs} ${digest.digest('hex')}`;
    }),
  );
}

/** Runs a source that must fail with this, and returns its error. */
export async function sourceFails(
  image: string,
  uri: string,
  code: ErrorCode | readonly ErrorCode[],
  phase: Phase | readonly Phase[],
  options: SourceOptions = {},
): Promise<MigrationError> {
  await using vm = await openImage(image);
  const source = new MigrationSource(vm, uri, {
    responseTimeoutMs: 5_000,
    connectTimeoutMs: 5_000,
    ...options,
  });
  const error = await failureOf(source.migrate(), 'the source');
  expectError(error, code, phase);
  return error;
}

/** The path of a small image for the tests of a file, each of which must leave it as it is. */
export async function untouchedImage(): Promise<string> {
  const folder = await temporaryFolder();
  const image = join(folder.path, 'vm');
  let before: readonly string[] = [];
  beforeAll(async () => {
    await smallImage(image);
    before = await fingerprint(image);
  });
  afterEach(async () => expect(await fingerprint(image)).toEqual(before));
  afterAll(() => folder[Symbol.asyncDispose]());
  return image;
}
