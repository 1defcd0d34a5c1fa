/** The registrations of a source, at both ends: what a span needs before it can be written, and how it is given up again. */
import { MigrationError } from '../../errors.ts';
import type { NativePageDigests } from '../../native/dirty.ts';
import type { NativeRuns } from '../../native/memory.ts';
import type { NativeKeys } from '../../native/transport.ts';
import { CONTROL_MAX_REPEAT, type DestinationBlock, type RegisterCommand } from '../../protocol/control.ts';
import { type ChunkSpan, chunksOf, packed, registrationSpans, runs, type Span } from '../../ram/spans.ts';
import type { RamBlock } from '../../ram/vm.ts';
import type { Connection } from '../../transport/connection.ts';
import type { SourceTurns } from '../../transport/turns.ts';
import { throwIfAborted, unlessAborted } from '../../transport/wait.ts';
import { allOf } from './all-of.ts';
import type { Head, Pin, PinWindow } from './pin-window.ts';

/** In the padding of a register command, between two ends that agreed on sparse RAM: every page of the span will be written. */
export const WRITTEN_THROUGHOUT = 1;

/** A block and its counterpart at the destination. */
export interface PinnedBlock {
  readonly index: number;
  readonly block: RamBlock;
  readonly remote: DestinationBlock;
  /**
   * Where a tracker that compares content wants what is sent noted. Pages are sent from copies then, so the block itself is registered at the
   * destination only.
   */
  readonly digests?: NativePageDigests;
}

/** The writer has the key of its copies. */
const KEY_OF_COPIES = 0;

/** Spans of one block that can be written: one job. */
export interface ReadySpans {
  readonly spans: NativeRuns;
  readonly keys: NativeKeys;
  /** Tells which job writes them: until that has ended they stay registered. Called once for each. */
  writtenBy(job: Promise<unknown>): void;
}

/** One owner for the registrations of one migration; they outlive a pass, and what is registered still is used again. */
export interface SourcePins {
  /**
   * Makes runs of data ready to be written, in their order but for spans that are registered already. Spans may be longer than the runs. `dense`:
   * every page of the runs will be written. Not for concurrent callers: it sends messages.
   */
  ready(block: PinnedBlock, data: NativeRuns, dense: boolean): AsyncIterable<ReadySpans>;
  /** Bytes of RAM that are registered, at the end where they are more, and the most that were at one time. */
  readonly bytes: bigint;
  readonly peak: bigint;
  /** Deregisters what is left at this side. Idempotent. */
  close(): Promise<void>;
}

/** The keys of whole blocks that are registered here, by their index. Without those that are sent from copies. */
export type LocalKeys = ReadonlyMap<number, number>;

/**
 * For pin-all, before the destination's keys are known: both ends pin at the same time. It has ended, well or not, when nothing is under way any
 * more; the connection owns what it registers.
 * @throws MigrationError REGISTER_FAILED, LOCKED_MEMORY_LIMIT
 */
export async function registerWhole(
  connection: Pick<Connection, 'register'>,
  blocks: readonly { readonly index: number; readonly block: RamBlock }[],
): Promise<LocalKeys> {
  const lkeys = blocks.map(async ({ index, block }) => {
    const [lkey] = await connection.register(block.mapping, BigUint64Array.of(0n, block.length), 0);
    return [index, lkey as number] as const;
  });
  return new Map(await allOf(lkeys));
}

/** pin-all: the destination has given a key for each block, and so it is here. */
export class WholeBlocks implements SourcePins {
  readonly #connection: Connection;
  readonly #lkeys: LocalKeys;
  readonly bytes: bigint;
  readonly peak: bigint;

  constructor(connection: Connection, lkeys: LocalKeys, blocks: readonly PinnedBlock[]) {
    this.#connection = connection;
    this.#lkeys = lkeys;
    this.peak = blocks.reduce((sum, { block }) => sum + block.length, 0n);
    this.bytes = this.peak;
  }

  async *ready({ index, remote }: PinnedBlock, spans: NativeRuns): AsyncGenerator<ReadySpans> {
    const keys = Uint32Array.of(this.#lkeys.get(index) ?? KEY_OF_COPIES, remote.rkey);
    if (spans.length > 0) yield { spans, keys, writtenBy: () => {} };
  }

  async close(): Promise<void> {
    await this.#connection.deregister(Uint32Array.from(this.#lkeys.values()));
  }
}

/** What a registered span is, at both ends. */
export interface SpanKeys {
  /** Absent: pages are sent from copies. */
  readonly lkey: number | undefined;
  readonly rkey: number;
}

/** A part of a registered span that is to be written. */
interface Part {
  readonly pin: Pin<SpanKeys>;
  readonly span: Span;
}

export interface SpanPinsOptions {
  readonly connection: Pick<Connection, 'register' | 'deregister'> & {
    readonly rails: Pick<Connection['rails'], 'barrier'>;
  };
  readonly turns: Pick<SourceTurns, 'request'>;
  readonly window: PinWindow<SpanKeys>;
  /**
   * Without a budget, the most bytes that are asked for in one message, once some have been: the first is short, because nothing is written
   * before its answer, and each next one twice as long. Absent: one span.
   */
  readonly aheadBytes?: bigint;
  /** The peer takes several commands in one message, and marks in their padding if `sparse`. QEMU answers an array with one result's bytes. */
  readonly extended: boolean;
  readonly sparse: boolean;
  /** The longest wait for the peer. */
  readonly timeoutMs: number;
  readonly signal: AbortSignal;
}

/**
 * Registers spans as they are needed, at both ends, and gives them up again when the budget wants it. While a span is written the
 * next ones are registered, as many as the budget holds; an UNREGISTER goes out as soon as the writer is done with a span, not when
 * the room is wanted, so the writer does not wait for it.
 */
export class SpanPins implements SourcePins {
  readonly #options: SpanPinsOptions;
  readonly #window: PinWindow<SpanKeys>;
  /** In the order in which they were begun, which is that in which they end. */
  readonly #jobsUnderWay = new Set<Promise<unknown>>();
  /** Without a budget: as much as is asked for at once. */
  #ahead: bigint;

  constructor(options: SpanPinsOptions) {
    this.#options = options;
    this.#window = options.window;
    this.#ahead = options.window.spanBytes;
  }

  get bytes(): bigint {
    return this.#window.bytes;
  }

  get peak(): bigint {
    return this.#window.peak;
  }

  async *ready(block: PinnedBlock, data: NativeRuns, dense: boolean): AsyncGenerator<ReadySpans> {
    const written = new Throughout(dense ? data : new BigUint64Array());
    const [reused, batch]: [Part[], ChunkSpan[]] = [[], []];
    let [bytes, most] = [0n, 0n];
    for (const { span, pin } of this.#heads(block, data)) {
      if (pin) {
        this.#window.use(pin);
        reused.push({ pin, span });
        continue;
      }
      if (batch.length > 0 && (bytes + span.length > most || batch.length >= this.#maxBatch)) {
        yield* this.#jobs(reused.splice(0));
        yield* this.#jobs(await this.#admit(block, batch.splice(0), written));
        bytes = 0n;
      }
      if (batch.length === 0) {
        // What is in use and not told of yet would be waited for in vain.
        yield* this.#jobs(reused.splice(0));
        most = await this.#awaitRoom(span.length);
      }
      batch.push(span);
      bytes += span.length;
    }
    yield* this.#jobs(reused);
    yield* this.#jobs(await this.#admit(block, batch, written));
  }

  get #maxBatch(): number {
    return this.#options.extended ? CONTROL_MAX_REPEAT : 1;
  }

  /** What is wanted, in pieces that are registered as one already, or can be. */
  *#heads(block: PinnedBlock, data: NativeRuns): Generator<Head<SpanKeys>> {
    for (const wanted of registrationSpans(runs(data), block.block.length)) {
      for (let rest: ChunkSpan | undefined = wanted; rest; ) {
        const head = this.#window.head(block.index, rest);
        rest = rangeAfter(rest, head.span, block.block.length);
        yield head;
      }
    }
  }

  /** None longer than a span may be: a job that ends makes room. */
  *#jobs(parts: readonly Part[]): Generator<ReadySpans> {
    for (let from = 0, to = 0; from < parts.length; from = to) {
      for (let bytes = 0n; to < parts.length; to += 1) {
        bytes += (parts[to] as Part).span.length;
        if (to > from && bytes > this.#window.spanBytes) break;
      }
      yield this.#job(parts.slice(from, to));
    }
  }

  #job(parts: readonly Part[]): ReadySpans {
    const keys = new Uint32Array(2 * parts.length);
    for (const [at, { pin }] of parts.entries()) {
      // A key is good for its own region only: the writer's addresses are those of the block.
      keys[2 * at] = pin.handle.lkey ?? KEY_OF_COPIES;
      keys[2 * at + 1] = pin.handle.rkey;
    }
    return {
      spans: packed(parts.map(({ span }) => span)),
      keys,
      writtenBy: (job) => {
        this.#jobsUnderWay.add(job);
        const done = (): void => {
          this.#jobsUnderWay.delete(job);
          for (const { pin } of parts) this.#window.release(pin);
        };
        job.then(done, done);
      },
    };
  }

  async #admit(
    block: PinnedBlock,
    spans: readonly ChunkSpan[],
    written: Throughout,
  ): Promise<readonly Part[]> {
    if (spans.length === 0) return [];
    const bytes = spans.reduce((sum, { length }) => sum + length, 0n);
    // There was room when they were picked; spans that were used again since then have taken of it.
    await this.#awaitRoom(bytes);
    await this.#evict(this.#window.victims(bytes) as readonly Pin<SpanKeys>[]);
    const { aheadBytes = 0n } = this.#options;
    if (2n * this.#ahead <= aheadBytes) this.#ahead *= 2n;
    const [rkeys, lkeys] = await Promise.all([
      this.#registerRemote(block, spans, written),
      this.#registerLocal(block, spans),
    ]);
    return spans.map((span, at) => {
      const keys = { lkey: lkeys?.[2 * at], rkey: rkeys[at] as number };
      return { pin: this.#window.add(block.index, span, keys), span };
    });
  }

  /**
   * Waits until so much can be registered; answers with how much then can be at once. That is half of the budget at most, while the other half is
   * written: a message and its answer take as long as what the writer has posted before it.
   */
  async #awaitRoom(bytes: bigint): Promise<bigint> {
    const { budget } = this.#window;
    while (this.#window.room < bytes) {
      const [oldest] = this.#jobsUnderWay;
      if (!oldest)
        throw new MigrationError('INTERNAL', 'ram', `no room for ${bytes} bytes in the pin budget`);
      await unlessAborted(oldest, this.#options.signal, 'ram');
    }
    const most = budget === undefined ? this.#ahead : budget / 2n;
    return this.#window.room < most ? this.#window.room : most;
  }

  /** The writer has done with them: their WRITEs have completed here, and have been placed there before the message takes their keys away. */
  async #evict(pins: readonly Pin<SpanKeys>[]): Promise<void> {
    if (pins.length === 0) return;
    throwIfAborted(this.#options.signal, 'ram');
    for (const pin of pins) this.#window.remove(pin);
    const { connection, turns, extended, timeoutMs, signal } = this.#options;
    await connection.rails.barrier({ timeoutMs, signal });
    const local = this.#deregister(pins);
    local.catch(() => {}); // told below, unless the peer fails first
    const most = extended ? CONTROL_MAX_REPEAT : 1;
    for (let at = 0; at < pins.length; at += most) {
      // Exactly what was registered, by its first chunk: anything else crashes a QEMU.
      const commands = pins.slice(at, at + most).map(({ index, span }) => ({
        key: span.firstChunk,
        blockIndex: index,
        chunks: span.moreChunks,
      }));
      await turns.request({ type: 'UNREGISTER_REQUEST', commands }, 'UNREGISTER_FINISHED');
    }
    await local;
  }

  async #registerLocal(
    { block, digests }: PinnedBlock,
    spans: readonly ChunkSpan[],
  ): Promise<NativeKeys | undefined> {
    return digests ? undefined : this.#options.connection.register(block.mapping, packed(spans), 0);
  }

  #deregister(pins: readonly Pin<SpanKeys>[]): Promise<void> {
    const lkeys = pins.flatMap(({ handle }) => handle.lkey ?? []);
    return this.#options.connection.deregister(Uint32Array.from(lkeys));
  }

  async #registerRemote(
    block: PinnedBlock,
    spans: readonly ChunkSpan[],
    written: Throughout,
  ): Promise<readonly number[]> {
    const commands: RegisterCommand[] = spans.map((span) => ({
      key: block.remote.offset + span.offset,
      blockIndex: block.index,
      chunks: span.moreChunks,
      ...(this.#options.sparse && written.holds(span) && { padding: WRITTEN_THROUGHOUT }),
    }));
    const { results } = await this.#options.turns.request(
      { type: 'REGISTER_REQUEST', commands },
      'REGISTER_RESULT',
    );
    const wrong = results.find(({ hostAddress }) => hostAddress !== block.remote.hostAddress);
    if (results.length !== spans.length || wrong)
      throw badResult(block, spans.length, results.length, wrong?.hostAddress);
    return results.map(({ rkey }) => rkey);
  }

  async close(): Promise<void> {
    await this.#deregister(this.#window.pins());
  }
}

/** Runs without neighbours, in order, and whether one holds all of a span: whole chunks are registered for runs that are shorter. */
class Throughout {
  readonly #runs: NativeRuns;
  #at = 0;

  constructor(runs: NativeRuns) {
    this.#runs = runs;
  }

  /** To be asked for spans in their order. */
  holds({ offset, length }: Span): boolean {
    const found = this.#runs;
    const end = (at: number): bigint => (found[at] as bigint) + (found[at + 1] as bigint);
    while (this.#at < found.length && end(this.#at) < offset + length) this.#at += 2;
    return this.#at < found.length && (found[this.#at] as bigint) <= offset;
  }
}

/** What is left of a range when its beginning has been taken. */
function rangeAfter(range: ChunkSpan, head: ChunkSpan, blockLength: bigint): ChunkSpan | undefined {
  const offset = head.offset + head.length;
  const length = range.offset + range.length - offset;
  return length > 0n ? chunksOf({ offset, length }, blockLength) : undefined;
}

function badResult(
  block: PinnedBlock,
  asked: number,
  count: number,
  address: bigint | undefined,
): MigrationError {
  return new MigrationError(
    'PROTOCOL_ERROR',
    'ram',
    `the destination answered ${asked} ${asked === 1 ? 'registration' : 'registrations'} in block '${block.block.name}' with ${count} results` +
      `${address === undefined ? '' : `, one of them at address ${address}`}; ${asked} at ${block.remote.hostAddress} were due`,
  );
}
