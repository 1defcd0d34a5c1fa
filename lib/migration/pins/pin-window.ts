/**
 * Which spans of RAM are registered, at both ends of a migration, within a budget. Decisions only: whoever uses it registers and
 * unregisters. A span belongs to the window from the moment of `add` until `remove`.
 */
import { CHUNK_BYTES, type ChunkSpan, chunksOf } from '../../ram/spans.ts';

/** Eviction order beside the time of the last use. */
export type Warmth = 'cold' | 'normal' | 'hot';

const UNLIMITED = 1n << 64n;

const COLDEST_FIRST: readonly Warmth[] = ['cold', 'normal', 'hot'];

/** A registered span. `handle` is its user's. */
export interface Pin<H> {
  readonly index: number;
  readonly span: ChunkSpan;
  readonly handle: H;
}

/** The beginning of a wanted range: registered already, or still to be. */
export interface Head<H> {
  readonly span: ChunkSpan;
  readonly pin: Pin<H> | undefined;
}

interface Held<H> extends Pin<H> {
  users: number;
}

export class PinWindow<H> {
  /** Bytes; absent: everything may be registered. */
  readonly budget: bigint | undefined;
  readonly spanBytes: bigint;
  readonly #warmth: (index: number, span: ChunkSpan) => Warmth;
  readonly #blocks: { readonly length: bigint; readonly pins: Held<H>[] }[];
  /** In the order of their last use, the longest ago first. */
  readonly #order = new Set<Held<H>>();
  #bytes = 0n;
  #peak = 0n;
  #inUse = 0n;

  /** No span is longer than `spanBytes`, a multiple of a chunk and of every block's page size, and at most the budget. */
  constructor(
    blockLengths: readonly bigint[],
    limits: { budget: bigint | undefined; spanBytes: bigint },
    warmth: (index: number, span: ChunkSpan) => Warmth = () => 'normal',
  ) {
    this.budget = limits.budget;
    this.spanBytes = limits.spanBytes;
    this.#warmth = warmth;
    this.#blocks = blockLengths.map((length) => ({ length, pins: [] }));
  }

  /** Bytes registered now, and at most so far. */
  get bytes(): bigint {
    return this.#bytes;
  }

  get peak(): bigint {
    return this.#peak;
  }

  /** Bytes that can be registered without waiting for a user of a span, if what is idle is evicted. */
  get room(): bigint {
    return (this.budget ?? UNLIMITED) - this.#inUse;
  }

  /**
   * How a wanted range of chunks begins. Registered spans never overlap: QEMU keeps one registration per first chunk and would answer a longer
   * request for the same first chunk with the old, shorter key.
   */
  head(index: number, wanted: ChunkSpan): Head<H> {
    const { length, pins } = this.#block(index);
    const end = wanted.offset + wanted.length;
    const at = firstBehind(pins, wanted.offset);
    const pin = pins[at];
    const part = (to: bigint): ChunkSpan =>
      chunksOf({ offset: wanted.offset, length: (to < end ? to : end) - wanted.offset }, length);
    if (pin && pin.span.offset <= wanted.offset)
      return { span: part(pin.span.offset + pin.span.length), pin };
    const most = wanted.offset + this.spanBytes;
    return { span: part(pin && pin.span.offset < most ? pin.span.offset : most), pin: undefined };
  }

  /** Registered, and used once: nobody evicts it before as many `release`. */
  add(index: number, span: ChunkSpan, handle: H): Pin<H> {
    const pin: Held<H> = { index, span, handle, users: 1 };
    const { pins } = this.#block(index);
    pins.splice(firstBehind(pins, span.offset), 0, pin);
    this.#order.add(pin);
    this.#bytes += span.length;
    this.#inUse += span.length;
    if (this.#bytes > this.#peak) this.#peak = this.#bytes;
    return pin;
  }

  use(pin: Pin<H>): void {
    const held = this.#held(pin);
    if (held.users === 0) this.#inUse += held.span.length;
    held.users += 1;
    this.#order.delete(held);
    this.#order.add(held);
  }

  release(pin: Pin<H>): void {
    const held = this.#held(pin);
    held.users -= 1;
    if (held.users === 0) this.#inUse -= held.span.length;
  }

  /** What to give up so that `bytes` more fit, in this order; undefined: too much of it is in use. */
  victims(bytes: bigint): readonly Pin<H>[] | undefined {
    if (this.budget === undefined) return [];
    let excess = this.#bytes + bytes - this.budget;
    const found: Pin<H>[] = [];
    if (excess <= 0n) return found;
    for (const pin of this.#idle()) {
      found.push(pin);
      excess -= pin.span.length;
      if (excess <= 0n) return found;
    }
    return undefined;
  }

  remove(pin: Pin<H>): void {
    const held = this.#held(pin);
    const { pins } = this.#block(pin.index);
    pins.splice(firstBehind(pins, held.span.offset), 1);
    this.#order.delete(held);
    this.#bytes -= pin.span.length;
  }

  /** Everything that is registered. */
  pins(): readonly Pin<H>[] {
    return [...this.#order];
  }

  /** Coldest first, and within that the least recently used. */
  *#idle(): Generator<Pin<H>> {
    const idle = [...this.#order].filter(({ users }) => users === 0);
    const warmth = new Map(idle.map((pin) => [pin, this.#warmth(pin.index, pin.span)]));
    for (const wanted of COLDEST_FIRST) yield* idle.filter((pin) => warmth.get(pin) === wanted);
  }

  #block(index: number): { readonly length: bigint; readonly pins: Held<H>[] } {
    const block = this.#blocks[index];
    if (block === undefined) throw new RangeError(`block ${index}; there are ${this.#blocks.length}`);
    return block;
  }

  #held(pin: Pin<H>): Held<H> {
    if (!this.#order.has(pin as Held<H>)) throw new RangeError('this span is not registered any more');
    return pin as Held<H>;
  }
}

/** Index of the first span that ends after `offset`. */
function firstBehind(pins: readonly Pin<unknown>[], offset: bigint): number {
  let [low, high] = [0, pins.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    const { span } = pins[middle] as Pin<unknown>;
    if (span.offset + span.length <= offset) low = middle + 1;
    else high = middle;
  }
  return low;
}

/**
 * What a budget is divided into: while some spans are written, others are being registered or on their way out. Several go in one message
 * to a peer of ours; a QEMU gets a message for each, so there they are longer.
 */
const SPANS_IN_BUDGET = { batched: 8n, single: 4n } as const;

/** The unit that registrations are made of: a chunk, or a page where that is larger. */
export function pinGranule(pageSizes: readonly number[]): bigint {
  return pageSizes.reduce((most, size) => (BigInt(size) > most ? BigInt(size) : most), CHUNK_BYTES);
}

/** The least budget: one span is written while the next is registered. */
export function leastPinBudget(granule: bigint): bigint {
  return 2n * granule;
}

/** The longest span to register at a time. `most` counts without a budget, and above it. */
export function spanBytesFor(
  budget: bigint | undefined,
  granule: bigint,
  most: bigint,
  messages: 'batched' | 'single',
): bigint {
  const whole = (bytes: bigint): bigint => (bytes < granule ? granule : (bytes / granule) * granule);
  const part = budget === undefined ? most : budget / SPANS_IN_BUDGET[messages];
  return whole(part < most ? part : most);
}

/**
 * A device pins page by page, which takes about as long as a fast wire needs for the page: spans are short towards one of ours, so that some are
 * written while the next ones are pinned, by several threads. Devices count registrations, so spans grow with RAM, but late: a window of 256 MiB,
 * which is all that a message can ask for, holds eight of them up to 1 TiB, and one for each thread up to 2 TiB.
 */
const LEAST_PINNED_SPAN_BYTES = 32n << 20n;
const MOST_PINNED_SPANS = 32768n;

/** The longest span without a budget, towards one of ours, where memory is pinned. Above 8 TiB windows end spans before. */
export function pinnedSpanBytes(ramBytes: bigint): bigint {
  const share = ramBytes / MOST_PINNED_SPANS;
  return share > LEAST_PINNED_SPAN_BYTES ? share : LEAST_PINNED_SPAN_BYTES;
}
