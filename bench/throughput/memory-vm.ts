/** A VM of one block in memory, at either end: what the benchmark moves. */
import { randomFillSync } from 'node:crypto';
import { type FileHandle, open, rm } from 'node:fs/promises';
import type { DestinationTarget, Mapping, SourceVm } from 'rdma-migrate';
import * as installed from 'rdma-migrate';

/** The package: this one, or another build of it that is measured beside. */
export type Package = Pick<
  typeof installed,
  'mapFile' | 'mapMemfd' | 'MigrationDestination' | 'MigrationSource'
>;

const BLOCK = 'pc.ram';
const RAM_SECTION = { sectionId: 2, instanceId: 0 };
const PIECE = 8 << 20;

let made = 0;

/** `bytes` of RAM without a zero page, resident; with `total`, in `pieces` spread evenly over that much RAM, the rest of which is a hole. */
export async function sourceVm(
  bytes: bigint,
  { total = bytes, pieces = 1n }: { total?: bigint; pieces?: bigint } = {},
  { mapFile }: Package = installed,
): Promise<SourceVm & AsyncDisposable> {
  const mapping = await noise({ bytes, total, pieces }, mapFile);
  const block = { name: BLOCK, length: total };
  return {
    layout: { machine: 'bench', pageSize: 4096, blocks: [block] },
    blocks: [{ ...block, mapping }],
    ramSection: RAM_SECTION,
    before: installed.streamHeader({ machine: 'bench' }),
    async *after() {
      yield installed.sealDeviceState();
    },
    [Symbol.asyncDispose]: () => mapping.close(),
  };
}

/** A file of `bytes` without a zero page, of which no two pieces of 8 MiB are the same. */
export async function writeRandom(path: string, bytes: number): Promise<void> {
  const file = await open(path, 'wx');
  try {
    const noise = Buffer.alloc(PIECE);
    for (let at = 0; at < bytes; at += PIECE)
      await file.write(randomFillSync(noise), 0, Math.min(PIECE, bytes - at), at);
  } finally {
    await file.close();
  }
}

interface Layout {
  readonly bytes: bigint;
  readonly total: bigint;
  readonly pieces: bigint;
}

/** In a file without a name, of which nothing is left whatever becomes of this process. */
async function noise(layout: Layout, mapFile: Package['mapFile']): Promise<Mapping> {
  const path = `/dev/shm/rdma-migrate-bench-${process.pid}-${made++}`;
  const file = await open(path, 'wx+');
  try {
    await rm(path);
    await writeNoise(file, layout);
    return await mapFile({ path: `/proc/self/fd/${file.fd}`, length: layout.total, mode: 'read' });
  } finally {
    await file.close();
  }
}

async function writeNoise(file: FileHandle, { bytes, total, pieces }: Layout): Promise<void> {
  const content = randomFillSync(Buffer.alloc(PIECE));
  await file.truncate(Number(total));
  const [length, distance] = [bytes / pieces, total / pieces];
  for (let piece = 0n; piece < pieces; piece++) {
    for (let at = 0n; at < length; at += BigInt(PIECE)) {
      const part = length - at < PIECE ? length - at : BigInt(PIECE);
      await file.write(content, 0, Number(part), Number(piece * distance + at));
    }
  }
}

/** Blocks that are all the same file: RAM of any size, read from no more memory than that file takes. `bytes`: of the file. */
export async function fileVm(
  { file, bytes, blocks }: { readonly file: string; readonly bytes: bigint; readonly blocks: number },
  { mapFile }: Package = installed,
): Promise<SourceVm & AsyncDisposable> {
  const mappings: Mapping[] = [];
  for (let at = 0; at < blocks; at++)
    mappings.push(await mapFile({ path: file, length: bytes, mode: 'read' }));
  const all = mappings.map((mapping, at) => ({ name: `${BLOCK}${at || ''}`, length: bytes, mapping }));
  return {
    layout: { machine: 'bench', pageSize: 4096, blocks: all.map(({ name, length }) => ({ name, length })) },
    blocks: all,
    ramSection: RAM_SECTION,
    before: installed.streamHeader({ machine: 'bench' }),
    async *after() {
      yield installed.sealDeviceState();
    },
    [Symbol.asyncDispose]: async () => {
      await Promise.all(mappings.map((mapping) => mapping.close()));
    },
  };
}

/** Memory that nobody has touched, for one migration. */
export class FreshTarget implements DestinationTarget {
  readonly ramIsFresh = true;
  readonly #package: Package;
  readonly #mappings: Mapping[] = [];

  constructor(from: Package = installed) {
    this.#package = from;
  }

  async allocate({ layout }: Parameters<DestinationTarget['allocate']>[0]) {
    return Promise.all(
      layout.blocks.map(async (block) => {
        const mapping = await this.#package.mapMemfd({ name: block.name, length: block.length });
        this.#mappings.push(mapping);
        return { ...block, mapping };
      }),
    );
  }

  async append(): Promise<void> {}
  async commit(): Promise<void> {}
  async abort(): Promise<void> {}

  async close(): Promise<void> {
    await Promise.all(this.#mappings.map((mapping) => mapping.close()));
  }
}

/** Memory that is allocated and, by default, touched before the RAM comes, and kept for the next migration, which has blocks of the same size. */
export class MemoryTarget implements DestinationTarget {
  readonly #populates: boolean;
  readonly #package: Package;
  readonly #mappings: Promise<Mapping>[] = [];

  constructor({ populates = true }: { populates?: boolean } = {}, from: Package = installed) {
    this.#populates = populates;
    this.#package = from;
  }

  async allocate({ layout }: Parameters<DestinationTarget['allocate']>[0]) {
    return Promise.all(
      layout.blocks.map(async (block, at) => {
        this.#mappings[at] ??= this.#allocated(block.length);
        return { ...block, mapping: await this.#mappings[at] };
      }),
    );
  }

  async #allocated(length: bigint): Promise<Mapping> {
    const mapping = await this.#package.mapMemfd({ name: BLOCK, length });
    if (this.#populates) await mapping.populate(0n, length);
    return mapping;
  }

  async append(): Promise<void> {}
  async commit(): Promise<void> {}
  async abort(): Promise<void> {}

  async close(): Promise<void> {
    for (const mapping of this.#mappings) await (await mapping).close();
  }
}
