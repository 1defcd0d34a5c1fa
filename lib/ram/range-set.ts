import type { Span } from './spans.ts';

/** Disjoint ranges in ascending order; neighbours are merged. */
export class RangeSet {
  #ranges: Span[] = [];

  get size(): number {
    return this.#ranges.length;
  }

  [Symbol.iterator](): IterableIterator<Span> {
    return this.#ranges.values();
  }

  add(span: Span): void {
    if (span.length <= 0n) return;
    let { offset } = span;
    let end = offset + span.length;
    const first = this.#firstEndingAt(offset);
    let last = first;
    for (; last < this.#ranges.length; last++) {
      const other = this.#ranges[last] as Span;
      if (other.offset > end) break;
      if (other.offset < offset) offset = other.offset;
      if (other.offset + other.length > end) end = other.offset + other.length;
    }
    this.#ranges.splice(first, last - first, { offset, length: end - offset });
  }

  remove(span: Span): void {
    const end = span.offset + span.length;
    const first = this.#firstEndingAt(span.offset);
    const left: Span[] = [];
    let last = first;
    for (; last < this.#ranges.length; last++) {
      const other = this.#ranges[last] as Span;
      if (other.offset >= end) break;
      left.push(...without(other, span.offset, end));
    }
    this.#ranges.splice(first, last - first, ...left);
  }

  /** The parts of a range that are in the set, ascending. */
  *within(span: Span): Generator<Span> {
    const end = span.offset + span.length;
    for (let at = this.#firstEndingAt(span.offset); at < this.#ranges.length; at++) {
      const other = this.#ranges[at] as Span;
      if (other.offset >= end) return;
      const from = other.offset > span.offset ? other.offset : span.offset;
      const otherEnd = other.offset + other.length;
      const to = otherEnd < end ? otherEnd : end;
      if (to > from) yield { offset: from, length: to - from };
    }
  }

  /** Whether any byte of a range is in the set. */
  touches(span: Span): boolean {
    return !this.within(span).next().done;
  }

  clear(): void {
    this.#ranges = [];
  }

  /** Index of the first range that ends at or after `offset`. */
  #firstEndingAt(offset: bigint): number {
    let [low, high] = [0, this.#ranges.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      const range = this.#ranges[middle] as Span;
      if (range.offset + range.length < offset) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function without(range: Span, from: bigint, to: bigint): Span[] {
  const end = range.offset + range.length;
  const left: Span[] = [];
  if (range.offset < from)
    left.push({ offset: range.offset, length: (end < from ? end : from) - range.offset });
  if (end > to)
    left.push({
      offset: range.offset > to ? range.offset : to,
      length: end - (range.offset > to ? range.offset : to),
    });
  return left;
}
