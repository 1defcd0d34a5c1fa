/**
 * One pass over the RAM of the source: every page whose bit is set reaches the destination, zero ranges as COMPRESS, the rest as
 * RDMA WRITEs. JavaScript works per range here, never per page: scanning, merging and writing are native.
 */
import { MigrationError } from '../errors.ts';
import type { NativeBitmap, NativeClassification } from '../native/memory.ts';
import type { NativeMemoryRegion } from '../native/transport.ts';
import type { DestinationBlock } from '../protocol/control.ts';
import type { BlockKeys, KeyedSpan } from '../ram/keys.ts';
import { registrationSpans, runs, type Span, SpanJoiner } from '../ram/spans.ts';
import type { RamBlock } from '../ram/vm.ts';
import type { Connection } from '../transport/connection.ts';
import type { SourceTurns } from '../transport/turns.ts';
import { throwIfAborted, unlessAborted } from '../transport/wait.ts';
import type { Statistics } from './statistics.ts';

/**
 * RAM is sorted into zero and data this much ahead of the writes, and no registration is longer. Scanning costs 0.1 s at worst; QEMU's
 * dynamic registration is slow in short spans (8 GiB: 37.9 s with 1 MiB, 17.9 s with 32 MiB, 4.4 s with 1 GiB).
 */
const WINDOW_BYTES = 1n << 30n;
/** A shorter zero range travels as data: a control message costs a round trip, in which a link moves about as much. */
const MIN_ZERO_RUN_BYTES = 256n << 10n;
/** Data with a shorter gap between is registered as one span: fewer requests, at the price of pinning the gap. */
const MERGE_GAP_BYTES = 2n << 20n;
/** Write jobs queued natively; enough that the writer never idles, few enough to bound memory. */
const MAX_QUEUED_JOBS = 64;

/** A block of the source, its counterpart at the destination, and what is still to be sent of it. */
export interface SourceBlock {
  readonly index: number;
  readonly block: RamBlock;
  readonly remote: DestinationBlock;
  readonly region: NativeMemoryRegion;
  readonly bitmap: NativeBitmap;
  readonly keys: BlockKeys;
}

export interface RamPassOptions {
  readonly connection: Connection;
  readonly turns: SourceTurns;
  readonly blocks: readonly SourceBlock[];
  readonly pinAll: boolean;
  readonly statistics: Statistics;
  readonly signal: AbortSignal;
}

/** What one pass has done. */
export interface RamPassResult {
  readonly pages: bigint;
  readonly bytes: bigint;
  readonly zeroBytes: bigint;
}

/**
 * Sends every page whose bit is set and clears the bits. Resolves when all WRITEs have completed locally and the destination has
 * dealt with every control message but the last.
 */
export async function sendRam(options: RamPassOptions): Promise<RamPassResult> {
  const pass = new RamPass(options);
  for (const block of options.blocks) await pass.sendBlock(block);
  return pass.finish();
}

class RamPass {
  readonly #options: RamPassOptions;
  readonly #jobs: Promise<void>[] = [];
  #pages = 0n;
  #bytes = 0n;
  #zeroBytes = 0n;

  constructor(options: RamPassOptions) {
    this.#options = options;
  }

  async sendBlock(block: SourceBlock): Promise<void> {
    const zeros = new SpanJoiner();
    let ahead: Promise<NativeClassification> | undefined = this.#classify(block, 0n);
    for (let offset = 0n; offset < block.block.length; offset += WINDOW_BYTES) {
      const classified: NativeClassification = await (ahead ?? this.#classify(block, offset));
      const next = offset + WINDOW_BYTES;
      ahead = next < block.block.length ? this.#classify(block, next) : undefined;
      throwIfAborted(this.#options.signal, 'ram');
      await this.#sendData(block, classified);
      // Zero ranges go while the writer is busy with the data.
      for (const run of runs(classified.zeroRuns)) await this.#sendZero(block, zeros.push(run));
    }
    await this.#sendZero(block, zeros.flush());
  }

  async finish(): Promise<RamPassResult> {
    // Each has the provider's deadline for a wire without progress.
    await unlessAborted(Promise.all(this.#jobs), this.#options.signal, 'ram');
    return { pages: this.#pages, bytes: this.#bytes, zeroBytes: this.#zeroBytes };
  }

  #classify({ block, bitmap }: SourceBlock, offset: bigint): Promise<NativeClassification> {
    const rest = block.length - offset;
    const length = rest < WINDOW_BYTES ? rest : WINDOW_BYTES;
    const classified = block.mapping.classify(bitmap, {
      offset,
      length,
      minZeroRun: MIN_ZERO_RUN_BYTES,
      mergeGap: MERGE_GAP_BYTES,
    });
    classified.catch(() => {}); // started ahead: it may fail while nobody waits for it yet
    return classified;
  }

  async #sendData(block: SourceBlock, { dataRuns }: NativeClassification): Promise<void> {
    if (this.#options.pinAll) {
      for (const run of runs(dataRuns)) await this.#submit(block, run, block.remote.rkey);
      return;
    }
    for (const span of registrationSpans(runs(dataRuns), block.block.length)) {
      for (const part of block.keys.split(span))
        await this.#submit(block, part, await this.#keyFor(block, part));
    }
  }

  async #keyFor(block: SourceBlock, part: KeyedSpan): Promise<number> {
    if (part.rkey !== undefined) return part.rkey;
    const command = {
      key: block.remote.offset + part.offset,
      blockIndex: block.index,
      chunks: part.moreChunks,
    };
    // One command a message: QEMU's destination answers an array with only one result's bytes.
    const request = { type: 'REGISTER_REQUEST', commands: [command] } as const;
    const { results } = await this.#options.turns.request(request, 'REGISTER_RESULT');
    const result = results[0];
    if (results.length !== 1 || !result || result.hostAddress !== block.remote.hostAddress) {
      throw badResult(block, results.length, result?.hostAddress);
    }
    block.keys.add(part, result.rkey);
    return result.rkey;
  }

  async #submit({ block, region, bitmap, remote }: SourceBlock, span: Span, rkey: number): Promise<void> {
    throwIfAborted(this.#options.signal, 'ram');
    const oldest = this.#jobs[this.#jobs.length - MAX_QUEUED_JOBS];
    if (oldest) await unlessAborted(oldest, this.#options.signal, 'ram');
    const written = this.#options.connection.write({
      mapping: block.mapping,
      bitmap,
      offset: span.offset,
      length: span.length,
      lkey: region.lkey,
      remoteAddress: remote.hostAddress + span.offset,
      rkey,
    });
    const job = written.then((result) => {
      this.#pages += result.pages;
      this.#bytes += result.bytes;
    });
    job.catch(() => {}); // finish() reports it
    this.#jobs.push(job);
  }

  async #sendZero(block: SourceBlock, span: Span | undefined): Promise<void> {
    if (!span) return;
    throwIfAborted(this.#options.signal, 'ram');
    const message = {
      type: 'COMPRESS',
      value: 0,
      blockIndex: block.index,
      offset: block.remote.offset + span.offset,
      length: span.length,
    } as const;
    await this.#options.turns.send(message);
    this.#zeroBytes += span.length;
    this.#options.statistics.zeroBytes += span.length;
  }
}

function badResult(block: SourceBlock, count: number, address: bigint | undefined): MigrationError {
  return new MigrationError(
    'PROTOCOL_ERROR',
    'ram',
    `the destination answered a registration in block '${block.block.name}' with ${count} results at address ${address ?? '?'}; ` +
      `one at ${block.remote.hostAddress} was due`,
  );
}
