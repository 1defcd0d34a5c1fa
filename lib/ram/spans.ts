import type { NativeRuns } from '../native/memory.ts';

/** Registrations are counted in chunks of 1 MiB from the start of the block (qemu-rdma-protocol, section 2). */
export const CHUNK_BYTES = 1n << 20n;

/**
 * The most that is declared zero, or made zero, in one go. The source's next message waits until the destination has done it, and QEMU reads
 * all of it first: even at 10 MB/s, slower than most disks, that is within the default limit for an answer. 1 TiB of zeros costs 4,096 round trips.
 */
export const ZERO_STEP_BYTES = 256n << 20n;

/** A range of bytes of one block. */
export interface Span {
  readonly offset: bigint;
  readonly length: bigint;
}

/** A range of chunks of one block; the last chunk may be short. */
export interface ChunkSpan extends Span {
  readonly firstChunk: bigint;
  /** Chunks after the first one, as REGISTER_REQUEST counts them: 0 is one chunk. */
  readonly moreChunks: bigint;
}

/** Unpacks the addon's answer. */
export function* runs(packed: NativeRuns): Generator<Span> {
  for (let i = 0; i + 1 < packed.length; i += 2)
    yield { offset: packed[i] as bigint, length: packed[i + 1] as bigint };
}

/** Packs spans as the addon takes them. */
export function packed(spans: readonly Span[]): NativeRuns {
  const all = new BigUint64Array(2 * spans.length);
  for (const [at, { offset, length }] of spans.entries()) {
    all[2 * at] = offset;
    all[2 * at + 1] = length;
  }
  return all;
}

/** The chunks that hold a range, cut at the end of the block. */
export function chunksOf(span: Span, blockLength: bigint): ChunkSpan {
  const firstChunk = span.offset / CHUNK_BYTES;
  const endChunk = (span.offset + span.length + CHUNK_BYTES - 1n) / CHUNK_BYTES;
  const offset = firstChunk * CHUNK_BYTES;
  const end = endChunk * CHUNK_BYTES < blockLength ? endChunk * CHUNK_BYTES : blockLength;
  return { offset, length: end - offset, firstChunk, moreChunks: endChunk - firstChunk - 1n };
}

/** Chunks of a block: the last may be short. */
export function chunkCount(blockLength: bigint): bigint {
  return (blockLength + CHUNK_BYTES - 1n) / CHUNK_BYTES;
}

/** The spans to register for runs of data: whole chunks, runs that touch the same chunk or neighbouring ones joined. */
export function* registrationSpans(data: Iterable<Span>, blockLength: bigint): Generator<ChunkSpan> {
  let joined: ChunkSpan | undefined;
  for (const run of data) {
    const next = chunksOf(run, blockLength);
    if (joined && next.firstChunk <= joined.firstChunk + joined.moreChunks + 1n) {
      const end = next.offset + next.length;
      joined = chunksOf({ offset: joined.offset, length: end - joined.offset }, blockLength);
    } else {
      if (joined) yield joined;
      joined = next;
    }
  }
  if (joined) yield joined;
}

/** Joins neighbouring ranges as they come, so that a zero range across the edge of a window travels as one. */
export class SpanJoiner {
  #pending: Span | undefined;

  /** Adds a range after the last; returns the one before it once that can grow no more. */
  push(span: Span): Span | undefined {
    const pending = this.#pending;
    if (pending && pending.offset + pending.length === span.offset) {
      this.#pending = { offset: pending.offset, length: pending.length + span.length };
      return undefined;
    }
    this.#pending = span;
    return pending;
  }

  flush(): Span | undefined {
    const pending = this.#pending;
    this.#pending = undefined;
    return pending;
  }
}

/** Pieces of a span that end at multiples of `step`. */
export function cut({ offset, length }: Span, step: bigint): Span[] {
  const pieces: Span[] = [];
  const end = offset + length;
  for (let at = offset; at < end; ) {
    const next = (at / step + 1n) * step;
    const stop = next < end ? next : end;
    pieces.push({ offset: at, length: stop - at });
    at = stop;
  }
  return pieces;
}
