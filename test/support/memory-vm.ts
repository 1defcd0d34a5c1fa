/** A VM in memory only, at either end, as an embedder has it. */
import { randomFillSync } from 'node:crypto';
import { type FileHandle, open } from 'node:fs/promises';
import {
  type DestinationOptions,
  type DestinationTarget,
  type Mapping,
  MigrationDestination,
  type MigrationResult,
  MigrationSource,
  mapMemfd,
  type RamBlock,
  type ReceivedVm,
  type SourceOptions,
  type SourceVm,
} from '../../lib/index.ts';
import { beginning, description } from '../protocol/streams.ts';

export const PAGE = 4096n;

/** What maps the RAM of a block. */
export type MapRam = (name: string, length: bigint) => Promise<Mapping>;
const memfd: MapRam = (name, length) => mapMemfd({ name, length });

/** A paused VM. Its RAM is zero until {@link poke}d. */
export class MemoryVm implements SourceVm, AsyncDisposable {
  readonly ramSection = { sectionId: 2, instanceId: 0 };
  readonly before = beginning().bytes();
  readonly layout: SourceVm['layout'];
  readonly blocks: readonly RamBlock[];

  private constructor(blocks: readonly RamBlock[]) {
    this.blocks = blocks;
    this.layout = {
      machine: 'pc-i440fx-7.2',
      pageSize: Number(PAGE),
      blocks: blocks.map(({ name, length }) => ({ name, length })),
    };
  }

  static async create(lengths: Readonly<Record<string, bigint>>, map: MapRam = memfd): Promise<MemoryVm> {
    const blocks: RamBlock[] = [];
    for (const [name, length] of Object.entries(lengths)) {
      blocks.push({ name, length, mapping: await map(name, length) });
    }
    return new MemoryVm(blocks);
  }

  async *after(): AsyncGenerator<Uint8Array> {
    yield description([]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { mapping } of this.blocks) await mapping.close();
  }
}

/** Keeps what arrives in memory, under a new mapping for each block. */
export class MemoryTarget implements DestinationTarget, AsyncDisposable {
  readonly ramIsFresh: boolean;
  blocks: readonly RamBlock[] = [];
  readonly #prepare: (blocks: readonly RamBlock[]) => Promise<void>;
  readonly #map: MapRam;

  /** `prepare` may write into the RAM before it is handed out; `fresh` is what the target says about it. */
  constructor(
    options: { fresh?: boolean; map?: MapRam; prepare?: (blocks: readonly RamBlock[]) => Promise<void> } = {},
  ) {
    this.ramIsFresh = options.fresh ?? true;
    this.#map = options.map ?? memfd;
    this.#prepare = options.prepare ?? (async () => {});
  }

  async allocate({ layout }: ReceivedVm): Promise<readonly RamBlock[]> {
    const blocks: RamBlock[] = [];
    for (const block of layout.blocks) {
      blocks.push({ ...block, mapping: await this.#map(block.name, block.length) });
    }
    this.blocks = blocks;
    await this.#prepare(blocks);
    return blocks;
  }

  async append(): Promise<void> {}
  async commit(): Promise<void> {}
  async abort(): Promise<void> {}

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { mapping } of this.blocks) await mapping.close();
  }
}

/** Writes to mapped memory, as a guest would. */
export async function poke(block: RamBlock, offset: bigint, bytes: Uint8Array): Promise<void> {
  await using memory: FileHandle = await open('/proc/self/mem', 'r+');
  const { bytesWritten } = await memory.write(bytes, 0, bytes.length, Number(block.mapping.address + offset));
  if (bytesWritten !== bytes.length) throw new Error(`only ${bytesWritten} bytes written at ${offset}`);
}

export async function peek(block: RamBlock, offset: bigint, length: bigint): Promise<Buffer> {
  await using memory = await open('/proc/self/mem', 'r');
  const bytes = Buffer.alloc(Number(length));
  await memory.read(bytes, 0, bytes.length, Number(block.mapping.address + offset));
  return bytes;
}

export const noise = (length: bigint): Buffer => randomFillSync(Buffer.alloc(Number(length)));

/** One migration between two ends of ours in this process. */
export async function migrateMemory(
  vm: SourceVm,
  target: DestinationTarget,
  source: SourceOptions = {},
  destination: DestinationOptions = {},
  watch: (source: MigrationSource) => void = () => {},
): Promise<{ source: MigrationResult; destination: MigrationResult; notices: string[] }> {
  await using waiting = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    provider: 'iwarp',
    responseTimeoutMs: 10_000,
    ...destination,
  });
  const notices: string[] = [];
  const sending = new MigrationSource(vm, waiting.uri, {
    provider: 'iwarp',
    responseTimeoutMs: 10_000,
    ...source,
  });
  for (const end of [waiting, sending]) end.on('notice', (notice) => notices.push(notice));
  watch(sending);
  const received = waiting.receive();
  received.catch(() => {});
  const sent = await sending.migrate();
  return { source: sent, destination: await received, notices };
}
