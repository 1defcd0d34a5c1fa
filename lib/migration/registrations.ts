import { MigrationError } from '../errors.ts';
import { ACCESS, type NativeMemoryRegion } from '../native/transport.ts';
import { chunkCount } from '../ram/keys.ts';
import type { ChunkSpan } from '../ram/spans.ts';
import type { RamBlock } from '../ram/vm.ts';
import type { Connection } from '../transport/connection.ts';

const REMOTE_WRITE = ACCESS.localWrite | ACCESS.remoteWrite;

interface Registration {
  readonly index: number;
  readonly span: ChunkSpan;
  readonly region: NativeMemoryRegion;
}

/**
 * The regions that a destination has registered for its source. The connection owns and closes them; this finds them again.
 * With `populate` registered memory is touched in the background, ahead of the WRITEs.
 */
export class Registrations {
  readonly #connection: Connection;
  readonly #blocks: readonly RamBlock[];
  readonly #populates: boolean;
  readonly #onFailure: (error: unknown) => void;
  readonly #registered = new Map<string, Registration[]>();
  readonly #populating = new Set<Promise<void>>();
  readonly #limit: bigint;
  #count = 0n;

  /** `onFailure` hears of memory that cannot be had, such as on a full disk. */
  constructor(
    connection: Connection,
    blocks: readonly RamBlock[],
    options: { populate: boolean; onFailure: (error: unknown) => void },
  ) {
    this.#connection = connection;
    this.#blocks = blocks;
    // What a NIC pins it has touched.
    this.#populates = options.populate && !connection.info.pinsMemory;
    this.#onFailure = options.onFailure;
    // A source registers no chunk more than once; twice that is a peer that means harm.
    this.#limit = 2n * blocks.reduce((sum, { length }) => sum + chunkCount(length), 0n);
  }

  /** pin-all: every block as one region. */
  async registerAll(): Promise<NativeMemoryRegion[]> {
    const regions: NativeMemoryRegion[] = [];
    for (const block of this.#blocks) {
      regions.push(await this.#connection.register(block.mapping, 0n, block.length, REMOTE_WRITE));
    }
    return regions;
  }

  /** The key for a span; the same span asked for again has the same key. @throws MigrationError PROTOCOL_ERROR, REGISTER_FAILED */
  async register(index: number, span: ChunkSpan): Promise<number> {
    const there = this.#at(index, span.firstChunk);
    const same = there.find((registration) => registration.span.length === span.length);
    if (same) return same.region.rkey;
    if (this.#count >= this.#limit) throw this.#tooMany();
    this.#count += 1n;
    const { mapping } = this.#blocks[index] as RamBlock;
    const region = await this.#connection.register(mapping, span.offset, span.length, REMOTE_WRITE);
    there.push({ index, span, region });
    if (this.#populates) this.#populate(mapping.populate(span.offset, span.length));
    return region.rkey;
  }

  /** Exactly what was registered with this first chunk. Nothing there: nothing to do. */
  async unregister(index: number, firstChunk: bigint): Promise<void> {
    const there = this.#at(index, firstChunk);
    for (const { region } of there.splice(0)) {
      this.#count -= 1n;
      await this.#connection.deregister(region);
    }
  }

  /** Waits until nothing populates any more. */
  async settled(): Promise<void> {
    await Promise.allSettled([...this.#populating]);
  }

  #at(index: number, firstChunk: bigint): Registration[] {
    const key = `${index}:${firstChunk}`;
    const there = this.#registered.get(key) ?? [];
    this.#registered.set(key, there);
    return there;
  }

  #populate(populated: Promise<void>): void {
    const watched = populated.catch(this.#onFailure).finally(() => this.#populating.delete(watched));
    this.#populating.add(watched);
  }

  #tooMany(): MigrationError {
    return new MigrationError(
      'PROTOCOL_ERROR',
      'ram',
      `the source asked for more than ${this.#limit} registrations, twice as many as there are chunks`,
    );
  }
}
