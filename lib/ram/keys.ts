import { CHUNK_BYTES, type ChunkSpan, chunksOf } from './spans.ts';

/** A span of a peer's block, and its key once the peer has registered it. */
export interface KeyedSpan extends ChunkSpan {
  readonly rkey: number | undefined;
}

/**
 * The keys that a destination has given for one block. Spans never overlap: QEMU keeps one registration per first chunk and
 * would answer a longer request for the same first chunk with the old, shorter key.
 */
export class BlockKeys {
  readonly #blockLength: bigint;
  readonly #spans: (ChunkSpan & { rkey: number })[] = [];

  constructor(blockLength: bigint) {
    this.#blockLength = blockLength;
  }

  /** Cuts a span into parts that are registered, with their key, and parts that are still to be. In ascending order. */
  *split(wanted: ChunkSpan): Generator<KeyedSpan> {
    let at = wanted.offset;
    const end = wanted.offset + wanted.length;
    for (const span of this.#spans) {
      const spanEnd = span.offset + span.length;
      if (spanEnd <= at || span.offset >= end) continue;
      if (span.offset > at) yield this.#part(at, span.offset, undefined);
      const stop = spanEnd < end ? spanEnd : end;
      yield this.#part(span.offset > at ? span.offset : at, stop, span.rkey);
      at = stop;
    }
    if (at < end) yield this.#part(at, end, undefined);
  }

  #part(offset: bigint, end: bigint, rkey: number | undefined): KeyedSpan {
    return { ...chunksOf({ offset, length: end - offset }, this.#blockLength), rkey };
  }

  add(span: ChunkSpan, rkey: number): void {
    const at = this.#spans.findIndex((other) => other.offset > span.offset);
    this.#spans.splice(at < 0 ? this.#spans.length : at, 0, { ...span, rkey });
  }

  /** Bytes registered so far. */
  get registeredBytes(): bigint {
    return this.#spans.reduce((sum, span) => sum + span.length, 0n);
  }
}

/** Chunks of a block: the last may be short. */
export function chunkCount(blockLength: bigint): bigint {
  return (blockLength + CHUNK_BYTES - 1n) / CHUNK_BYTES;
}
