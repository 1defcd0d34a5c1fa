import { MigrationError } from '../../errors.ts';
import { ACCESS, type NativeMemoryRegion } from '../../native/transport.ts';
import { type ChunkSpan, chunkCount } from '../../ram/spans.ts';
import type { RamBlock } from '../../ram/vm.ts';
import type { Connection } from '../../transport/connection.ts';
import { PopulateAhead } from './populate-ahead.ts';

const REMOTE_WRITE = ACCESS.localWrite | ACCESS.remoteWrite;

interface Registration {
  readonly span: ChunkSpan;
  readonly region: Promise<NativeMemoryRegion>;
}

export interface RegistrationsOptions {
  /** Touch registered memory in the background, ahead of the WRITEs. */
  readonly populate: boolean;
  /** Hears of memory that cannot be had, such as on a full disk. */
  readonly onFailure: (error: unknown) => void;
  /** Ends what is done in the background. */
  readonly signal: AbortSignal;
  /** Bytes that may be registered at one time. */
  readonly budget?: bigint | undefined;
  /** The source knows the budget: to pass it is against the protocol. */
  readonly budgetAgreed?: boolean;
}

/**
 * The regions that a destination has registered for its source. The connection owns and closes them; this finds them again.
 */
export class Registrations {
  readonly #connection: Connection;
  readonly #blocks: readonly RamBlock[];
  readonly #registered = new Map<string, Registration[]>();
  /** undefined: nothing is touched ahead. */
  readonly #ahead: PopulateAhead | undefined;
  readonly #limit: bigint;
  readonly #options: RegistrationsOptions;
  #count = 0n;
  #bytes = 0n;
  #peak = 0n;

  constructor(connection: Connection, blocks: readonly RamBlock[], options: RegistrationsOptions) {
    this.#options = options;
    this.#connection = connection;
    this.#blocks = blocks;
    // What a NIC pins it has touched.
    const populates = options.populate && !connection.info.pinsMemory;
    const placed = (): bigint => connection.stats().writeBytesPlaced;
    const signal = AbortSignal.any([options.signal, connection.ended]);
    this.#ahead = populates ? new PopulateAhead({ placed, onFailure: options.onFailure, signal }) : undefined;
    // A source registers no chunk more than once; twice that is a peer that means harm.
    this.#limit = 2n * blocks.reduce((sum, { length }) => sum + chunkCount(length), 0n);
  }

  /** pin-all: every block as one region. */
  async registerAll(): Promise<NativeMemoryRegion[]> {
    const regions: NativeMemoryRegion[] = [];
    for (const block of this.#blocks) {
      this.#take(block.length);
      regions.push(await this.#connection.register(block.mapping, 0n, block.length, REMOTE_WRITE));
    }
    return regions;
  }

  /** Bytes that are registered. */
  get bytes(): bigint {
    return this.#bytes;
  }

  /** The most that were at one time. */
  get peak(): bigint {
    return this.#peak;
  }

  /**
   * The key for a span; the same span asked for again has the same key. `populate`: it is worth touching ahead. Calls may overlap.
   * @throws MigrationError PROTOCOL_ERROR, REGISTER_FAILED, LOCKED_MEMORY_LIMIT
   */
  async register(index: number, span: ChunkSpan, populate: boolean): Promise<number> {
    const key = `${index}:${span.firstChunk}`;
    const there = this.#registered.get(key) ?? [];
    const same = there.find((registration) => registration.span.length === span.length);
    if (same) return (await same.region).rkey;
    if (this.#count >= this.#limit) throw this.#tooMany();
    this.#take(span.length);
    this.#count += 1n;
    const { mapping } = this.#blocks[index] as RamBlock;
    const region = this.#connection.register(mapping, span.offset, span.length, REMOTE_WRITE);
    there.push({ span, region });
    this.#registered.set(key, there);
    const { rkey } = await region;
    if (populate) this.#ahead?.add(mapping, span);
    return rkey;
  }

  /** Exactly what was registered with this first chunk. Nothing there: nothing to do. */
  async unregister(index: number, firstChunk: bigint): Promise<void> {
    const key = `${index}:${firstChunk}`;
    const there = this.#registered.get(key) ?? [];
    this.#registered.delete(key);
    const { mapping } = this.#blocks[index] as RamBlock;
    for (const { region, span } of there) {
      this.#ahead?.drop(mapping, span);
      await this.#connection.deregister(await region);
      this.#count -= 1n;
      this.#bytes -= span.length;
    }
  }

  /** All WRITEs have come: touches nothing more, and waits until nothing is being touched. */
  async settled(): Promise<void> {
    await this.#ahead?.end();
  }

  #take(length: bigint): void {
    const { budget } = this.#options;
    const needed = this.#bytes + length;
    if (budget !== undefined && needed > budget) throw this.#overBudget(needed, budget);
    this.#bytes = needed;
    if (needed > this.#peak) this.#peak = needed;
  }

  #overBudget(needed: bigint, budget: bigint): MigrationError {
    const details = { needed, limit: budget };
    if (this.#options.budgetAgreed) {
      const message = `the source asked for ${needed} bytes to be registered at one time, and it was told that ${budget} may be`;
      return new MigrationError('PROTOCOL_ERROR', 'ram', message, { details });
    }
    return new MigrationError(
      'LOCKED_MEMORY_LIMIT',
      'ram',
      `the source asked for ${needed} bytes to be registered at one time, and the pin budget here is ${budget}. It is a version 1 source (a stock ` +
        'QEMU), which knows no budget and gives nothing back: receive it with a budget as large as its RAM, or with none',
      { details },
    );
  }

  #tooMany(): MigrationError {
    return new MigrationError(
      'PROTOCOL_ERROR',
      'ram',
      `the source asked for more than ${this.#limit} registrations, twice as many as there are chunks`,
    );
  }
}
