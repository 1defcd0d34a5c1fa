/**
 * One pass over the RAM of the source: every page whose bit is set reaches the destination, zero ranges as COMPRESS, the rest as
 * RDMA WRITEs. JavaScript works per range here, never per page: scanning, merging and writing are native.
 */
import { MigrationError } from '../../errors.ts';
import type { NativeClassification } from '../../native/memory.ts';
import type { HintBook, Temperature } from '../../ram/hint-book.ts';
import { cut, runs, type Span, SpanJoiner, ZERO_STEP_BYTES } from '../../ram/spans.ts';
import type { Connection } from '../../transport/connection.ts';
import type { SourceTurns } from '../../transport/turns.ts';
import { throwIfAborted, unlessAborted } from '../../transport/wait.ts';
import type { ReadySpans, SourcePins } from '../pins/source-pins.ts';
import type { RamPassResult, SourceBlock } from '../ram-round.ts';
import type { SentMap } from './sent-map.ts';
import type { SentMeter } from './sent-meter.ts';

/**
 * So much RAM is read, and sorted into zero and data, ahead of the writes, and no registration is longer; what is not dirty costs nothing of
 * it, nor does a hole, unless it is one of huge pages. Scanning costs 0.1 s at worst; QEMU's dynamic registration is slow in short spans
 * (8 GiB: 37.9 s with 1 MiB, 17.9 s with 32 MiB, 4.4 s with 1 GiB).
 */
export const WINDOW_BYTES = 1n << 30n;
/** Towards one of ours, which is not slow, and to which a window tells what is dense. The first are smaller: the wire waits for them. */
const SHORT_WINDOW_BYTES = 256n << 20n;
const FIRST_WINDOW_BYTES = 16n << 20n;
/** A shorter zero range travels as data: a control message costs a round trip, in which a link moves about as much. */
const MIN_ZERO_RUN_BYTES = 256n << 10n;
/** Data with a shorter gap between is registered as one span: fewer requests, at the price of pinning the gap. */
const MERGE_GAP_BYTES = 2n << 20n;
/** Write jobs queued natively; enough that the writer never idles, few enough to bound memory. */
const MAX_QUEUED_JOBS = 64;

export interface RamPassOptions {
  readonly connection: Connection;
  readonly turns: SourceTurns;
  readonly blocks: readonly SourceBlock[];
  /** Outlives the pass; the session closes it. */
  readonly pins: SourcePins;
  readonly hints?: HintBook;
  readonly meter: SentMeter;
  /** Somebody looks at where RAM stands. */
  readonly map?: SentMap;
  readonly signal: AbortSignal;
  /** The longest wait for the peer's answer on every channel. */
  readonly timeoutMs: number;
  /** Windows are short: a span more to register costs little at this peer, or none has to be. */
  readonly shortWindows: boolean;
  /** No pass comes after it, and nobody writes RAM any more: it ends only when nothing is left to be sent. */
  readonly last: boolean;
}

/**
 * Sends every page whose bit is set and clears the bits. Resolves when all WRITEs have completed locally and the destination has
 * dealt with every control message but the last.
 */
export async function sendRam(options: RamPassOptions): Promise<RamPassResult> {
  const pass = new RamPass(options);
  await pass.goOver();
  while (options.last && pass.isLeft()) {
    await pass.inOrder();
    await pass.goOver();
  }
  return pass.result;
}

/** What is written soon is sent last, when fewer writes to it are still to come. */
const COLD_FIRST: readonly Temperature[] = ['cold', 'normal', 'hot'];

class RamPass {
  readonly #options: RamPassOptions;
  readonly #jobs: Promise<void>[] = [];
  #window: bigint;
  #pages = 0n;
  #bytes = 0n;
  #zeroBytes = 0n;

  constructor(options: RamPassOptions) {
    this.#options = options;
    this.#window = options.shortWindows ? FIRST_WINDOW_BYTES : WINDOW_BYTES;
  }

  get result(): RamPassResult {
    return { pages: this.#pages, bytes: this.#bytes, zeroBytes: this.#zeroBytes };
  }

  /** Once over all RAM. The order is fixed before anything is sent: a hint that comes meanwhile takes no page out of it. */
  async goOver(): Promise<void> {
    const { hints, blocks, signal, map } = this.#options;
    map?.passBegins();
    await this.#clearFreed();
    const order = (hints ? COLD_FIRST : ([undefined] as const)).map((temperature) =>
      blocks.map((block) => ({ block, spans: this.#spans(block, temperature) })),
    );
    for (const [at, group] of order.entries()) {
      if (at > 0 && group.some(({ spans }) => spans.length > 0)) await this.inOrder();
      for (const { block, spans } of group) await this.#sendBlock(block, spans);
    }
    for (const block of blocks) block.fresh = false;
    // Each has the provider's deadline for a wire without progress.
    await unlessAborted(Promise.all(this.#jobs.splice(0)), signal, 'ram');
    map?.passEnds();
  }

  /**
   * What is written from now on lands after what was: a hint may set a page's bit again that has been written in this pass, and channels keep
   * no order between them. One channel keeps it itself.
   */
  async inOrder(): Promise<void> {
    const { connection, signal, timeoutMs } = this.#options;
    if (connection.rails.channels === 1) return;
    await unlessAborted(Promise.all(this.#jobs.splice(0)), signal, 'ram');
    await connection.rails.barrier({ timeoutMs, signal });
  }

  /**
   * Whether hints that came meanwhile have left something. Without hints nobody sets bits.
   * @throws MigrationError INTERNAL: a page would be lost
   */
  isLeft(): boolean {
    const { hints, blocks } = this.#options;
    const pages = blocks.reduce((sum, { bitmap }) => sum + bitmap.count(), 0);
    if (pages > 0 && !hints)
      throw new MigrationError('INTERNAL', 'ram', `the last pass has left ${pages} pages unsent`);
    return pages > 0 || hints?.hasFreed === true;
  }

  /**
   * What has become free since the last pass. The destination has dealt with it before anything is written: a page that was written
   * again after it was free must not be cleared after its WRITE.
   */
  async #clearFreed(): Promise<void> {
    const { hints, blocks, turns } = this.#options;
    let told = false;
    for (const block of hints ? blocks : []) {
      for (const span of hints?.takeFreed(block.block.name) ?? []) {
        this.#look(block, 0n, span.length);
        this.#options.map?.freed(block, span);
        told = (await this.#zero(block, span)) || told;
      }
    }
    if (told) await turns.ready();
  }

  async #sendBlock(block: SourceBlock, spans: readonly Span[]): Promise<void> {
    const zeros = new SpanJoiner();
    const left = spans.toReversed();
    for (let ahead = this.#classifyNext(block, left); ahead; ) {
      const classified = await unlessAborted(ahead, this.#options.signal, 'ram');
      ahead = this.#classifyNext(block, left);
      throwIfAborted(this.#options.signal, 'ram');
      const pageSize = BigInt(block.block.mapping.pageSize);
      this.#look(block, classified.dataPages * pageSize, classified.zeroPages * pageSize);
      await this.#sendData(block, classified);
      // Zero ranges go while the writer is busy with the data.
      for (const run of runs(classified.zeroRuns)) {
        const whole = zeros.push(run);
        if (whole) await this.#zero(block, whole);
      }
    }
    const last = zeros.flush();
    if (last) await this.#zero(block, last);
  }

  #spans(block: SourceBlock, temperature: Temperature | undefined): readonly Span[] {
    if (temperature === undefined) return [{ offset: 0n, length: block.block.length }];
    return this.#options.hints?.spans(block.block, temperature) ?? [];
  }

  /** The last of the spans, as far as a window goes; what is left of it takes its place. Nothing is left: undefined. */
  #classifyNext(block: SourceBlock, left: Span[]): Promise<NativeClassification> | undefined {
    const span = left.pop();
    if (!span) return undefined;
    const classified = this.#classify(block, span).then((found) => {
      const end = span.offset + span.length;
      if (found.end < end) left.push({ offset: found.end, length: end - found.end });
      return found;
    });
    classified.catch(() => {}); // started ahead: it may fail while nobody waits for it yet
    return classified;
  }

  #classify(source: SourceBlock, span: Span): Promise<NativeClassification> {
    const { block, bitmap, fresh } = source;
    const mostRead = this.#window;
    if (mostRead < SHORT_WINDOW_BYTES) this.#window = 2n * mostRead;
    const window = {
      ...span,
      // What need not be told may be as short as it is.
      minZeroRun: fresh ? BigInt(block.mapping.pageSize) : MIN_ZERO_RUN_BYTES,
      mergeGap: MERGE_GAP_BYTES,
      mostRead,
    };
    return block.mapping.classify(bitmap, window, this.#options.map?.zerosOf(source));
  }

  async #sendData(block: SourceBlock, { dataRuns, dataPages }: NativeClassification): Promise<void> {
    let length = 0n;
    for (let at = 1; at < dataRuns.length; at += 2) length += dataRuns[at] as bigint;
    const dense = length === dataPages * BigInt(block.block.mapping.pageSize);
    for await (const ready of this.#options.pins.ready(block, dataRuns, dense))
      await this.#submit(block, ready);
  }

  async #submit(source: SourceBlock, ready: ReadySpans): Promise<void> {
    const { block, bitmap, digests, remote } = source;
    throwIfAborted(this.#options.signal, 'ram');
    const oldest = this.#jobs[this.#jobs.length - MAX_QUEUED_JOBS];
    if (oldest) await unlessAborted(oldest, this.#options.signal, 'ram');
    const written = this.#options.connection.write({
      mapping: block.mapping,
      bitmap,
      spans: ready.spans,
      keys: ready.keys,
      remoteAddress: remote.hostAddress,
      ...(digests && { digests }),
    });
    const job = written.then((result) => {
      this.#pages += result.pages;
      this.#bytes += result.bytes;
    });
    job.catch(() => {}); // goOver() reports it
    ready.writtenBy(job);
    this.#options.map?.flies(source, ready.spans, job);
    this.#jobs.push(job);
  }

  /** True: the destination was told. It has the zeros of fresh RAM without a word. */
  async #zero(block: SourceBlock, span: Span): Promise<boolean> {
    this.#zeroBytes += span.length;
    if (block.fresh) return false;
    await this.#sendZero(block, span);
    this.#options.meter.zeros(span.length, false);
    return true;
  }

  /** RAM has been looked at. Zeros that need no word are dealt with by that. */
  #look({ fresh }: SourceBlock, content: bigint, zero: bigint): void {
    this.#options.meter.found(content, zero);
    if (fresh) this.#options.meter.zeros(zero, true);
  }

  async #sendZero(block: SourceBlock, span: Span): Promise<void> {
    for (const piece of cut(span, ZERO_STEP_BYTES)) await this.#compress(block, piece);
  }

  async #compress(block: SourceBlock, span: Span): Promise<void> {
    throwIfAborted(this.#options.signal, 'ram');
    const message = {
      type: 'COMPRESS',
      value: 0,
      blockIndex: block.index,
      offset: block.remote.offset + span.offset,
      length: span.length,
    } as const;
    const pageSize = BigInt(block.block.mapping.pageSize);
    block.digests?.setZero(Number(span.offset / pageSize), Number(span.length / pageSize));
    await this.#options.turns.send(message);
  }
}
