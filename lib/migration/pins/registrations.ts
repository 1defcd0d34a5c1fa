import { MigrationError } from '../../errors.ts';
import { ACCESS } from '../../native/transport.ts';
import { type ChunkSpan, chunkCount, packed } from '../../ram/spans.ts';
import type { RamBlock } from '../../ram/vm.ts';
import type { Connection } from '../../transport/connection.ts';
import type { TouchedAhead } from '../options.ts';
import { allOf } from './all-of.ts';
import { PopulateAhead } from './populate-ahead.ts';

const REMOTE_WRITE = ACCESS.localWrite | ACCESS.remoteWrite;

/** A span that a source wants a key for. */
export interface Wanted {
  /** Of the block. */
  readonly index: number;
  readonly span: ChunkSpan;
  /** It is worth touching ahead. */
  readonly populate: boolean;
}

/** The keys are known when the request that made it has been carried out; no other comes before. */
interface Registration extends Wanted {
  lkey: number;
  rkey: number;
}

export interface RegistrationsOptions {
  /** The registered memory to touch in the background, ahead of the WRITEs. */
  readonly touchedAhead: TouchedAhead;
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
  /** By index of the block and first chunk. Chunks are numbers here: a map finds them several times as fast. */
  readonly #registered: readonly Map<number, Registration[]>[];
  /** undefined: nothing is touched ahead. */
  readonly #ahead: PopulateAhead | undefined;
  readonly #limit: number;
  readonly #options: RegistrationsOptions;
  #count = 0;
  #bytes = 0n;
  #peak = 0n;

  constructor(connection: Connection, blocks: readonly RamBlock[], options: RegistrationsOptions) {
    this.#options = options;
    this.#connection = connection;
    this.#blocks = blocks;
    this.#registered = blocks.map(() => new Map());
    // What a NIC pins it has touched.
    const populates = options.touchedAhead !== 'none' && !connection.info.pinsMemory;
    const placed = (): bigint => connection.stats().writeBytesPlaced;
    const signal = AbortSignal.any([options.signal, connection.ended]);
    this.#ahead = populates ? new PopulateAhead({ placed, onFailure: options.onFailure, signal }) : undefined;
    // A source registers no chunk more than once; twice that is a peer that means harm.
    this.#limit = 2 * blocks.reduce((sum, { length }) => sum + Number(chunkCount(length)), 0);
  }

  /** pin-all: every block as one region, side by side: pinning one is the work of one thread. Their keys. */
  async registerAll(): Promise<number[]> {
    for (const { length } of this.#blocks) this.#take(length);
    const keys = await allOf(
      this.#blocks.map(({ mapping, length }) =>
        this.#connection.register(mapping, BigUint64Array.of(0n, length), REMOTE_WRITE),
      ),
    );
    return keys.map(([, rkey]) => rkey as number);
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
   * The keys for spans, in their order; the same span asked for again has the same key. One call after the other.
   * @throws MigrationError PROTOCOL_ERROR, REGISTER_FAILED, LOCKED_MEMORY_LIMIT
   */
  async register(spans: readonly Wanted[]): Promise<number[]> {
    const fresh: Registration[] = [];
    const all = spans.map((wanted) => this.#known(wanted) ?? this.#enter(wanted, fresh));
    for (const index of new Set(fresh.map((one) => one.index)))
      await this.#carryOut(
        index,
        fresh.filter((one) => one.index === index),
      );
    return all.map(({ rkey }) => rkey);
  }

  #known({ index, span }: Wanted): Registration | undefined {
    const there = this.#registered[index]?.get(Number(span.firstChunk));
    return there?.find((registration) => registration.span.length === span.length);
  }

  #enter({ index, span, populate }: Wanted, fresh: Registration[]): Registration {
    if (this.#count >= this.#limit) throw this.#tooMany();
    this.#take(span.length);
    this.#count += 1;
    const registration = { index, span, populate, lkey: 0, rkey: 0 };
    const firstChunk = Number(span.firstChunk);
    const block = this.#registered[index] as Map<number, Registration[]>;
    const there = block.get(firstChunk);
    if (there) there.push(registration);
    else block.set(firstChunk, [registration]);
    fresh.push(registration);
    return registration;
  }

  async #carryOut(index: number, fresh: readonly Registration[]): Promise<void> {
    const { mapping } = this.#blocks[index] as RamBlock;
    const spans = packed(fresh.map(({ span }) => span));
    const keys = await this.#connection.register(mapping, spans, REMOTE_WRITE);
    const ahead = this.#isTouched(mapping) ? this.#ahead : undefined;
    for (const [at, registration] of fresh.entries()) {
      registration.lkey = keys[2 * at] as number;
      registration.rkey = keys[2 * at + 1] as number;
      if (registration.populate) ahead?.add(mapping, registration.span);
    }
  }

  /** Exactly what was registered with these first chunks. Nothing there: nothing to do. */
  async unregister(
    chunks: readonly { readonly index: number; readonly firstChunk: bigint }[],
  ): Promise<void> {
    const gone = chunks.flatMap(({ index, firstChunk }) => {
      const first = Number(firstChunk);
      const there = this.#registered[index]?.get(first) ?? [];
      this.#registered[index]?.delete(first);
      return there;
    });
    this.#ahead?.drop(new Set(gone.map(({ span }) => span)));
    await this.#connection.deregister(Uint32Array.from(gone, ({ lkey }) => lkey));
    this.#count -= gone.length;
    for (const { span } of gone) this.#bytes -= span.length;
  }

  /** All WRITEs have come: touches nothing more, and waits until nothing is being touched. */
  async settled(): Promise<void> {
    await this.#ahead?.end();
  }

  #isTouched({ fillsThroughFile }: RamBlock['mapping']): boolean {
    return this.#options.touchedAhead === 'all' || !fillsThroughFile;
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
