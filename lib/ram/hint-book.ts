/** What an embedder knows of its guest's memory, as a migration uses it: the store behind MigrationHints. */
import { MigrationError } from '../errors.ts';
import { RangeSet } from './range-set.ts';
import type { Span } from './spans.ts';
import type { PageBitmap } from './tracker.ts';
import type { RamBlock } from './vm.ts';

/**
 * `cold`: not written for a while: sent first, its registration given up first. `hot`: written soon or all the time: sent last in each pass,
 * its registration kept longest. `free`: its content does not matter (balloon, free-page reporting): it is not read, and the destination's
 * is cleared. `normal`: takes any of these back.
 */
export type HintKind = 'cold' | 'hot' | 'free' | 'normal';

export type Temperature = 'cold' | 'normal' | 'hot';

/** Ranges that are remembered in all, after merging. */
const MAX_RANGES = 4096;

interface Attached {
  readonly length: bigint;
  readonly pageSize: bigint;
  readonly bitmap: PageBitmap;
}

interface BlockHints {
  readonly cold: RangeSet;
  readonly hot: RangeSet;
  readonly free: RangeSet;
  /** Free, and the destination does not know yet. */
  readonly toClear: RangeSet;
  attached?: Attached;
}

/** Hints by RAM block. What each call means to an embedder is said at `MigrationHints`. */
export class HintBook {
  readonly #blocks = new Map<string, BlockHints>();
  readonly #maxRanges: number;
  #sealed: ReadonlySet<string> | undefined;
  #verify = false;

  /** `maxRanges`: how many ranges are remembered at most, neighbours counted as one. Default 4096. */
  constructor({ maxRanges = MAX_RANGES }: { maxRanges?: number } = {}) {
    if (!Number.isInteger(maxRanges) || maxRanges < 1)
      throw invalid(`expected a positive integer for maxRanges but received ${maxRanges}`);
    this.#maxRanges = maxRanges;
  }

  /** @throws MigrationError INVALID_ARGUMENT */
  hint(block: string, range: Span, kind: HintKind): void {
    const hints = this.#checked(block, range, kind);
    const isFull = this.ranges + 2 > this.#maxRanges;
    if (isFull && kind !== 'normal') throw this.#tooMany();
    // What is taken back is never refused: where there is no room to split a range, all of it is taken back.
    const span = isFull ? widened(hints, range) : { offset: range.offset, length: range.length };
    hints.cold.remove(span);
    hints.hot.remove(span);
    if (kind === 'free') {
      hints.free.add(span);
      clearBits(hints, span);
    } else {
      withdraw(hints, span);
      if (kind !== 'normal') hints[kind].add(span);
    }
  }

  /** Ranges remembered in all. */
  get ranges(): number {
    let sum = 0;
    for (const { cold, hot, free, toClear } of this.#blocks.values())
      sum += cold.size + hot.size + free.size + toClear.size;
    return sum;
  }

  /**
   * A migration begins: from now on `free` acts on these bitmaps. Called by the migration, before anything is sent.
   * @throws as {@link check}
   */
  attach(
    blocks: readonly { readonly block: RamBlock; readonly bitmap: PageBitmap }[],
    verify: boolean,
  ): void {
    this.check(
      blocks.map(({ block }) => block),
      verify,
    );
    this.#verify = verify;
    for (const { block, bitmap } of blocks) {
      const hints = this.#of(block.name);
      hints.attached = { length: block.length, pageSize: BigInt(block.mapping.pageSize), bitmap };
      hints.toClear.clear();
      for (const span of hints.free) clearBits(hints, span);
    }
    this.#sealed = new Set(blocks.map(({ block }) => block.name));
  }

  /**
   * `verify`: the migration compares digests of all RAM.
   * @throws MigrationError INVALID_ARGUMENT when a hint names none of the blocks, leaves its block, or is `free` although `verify`
   */
  check(blocks: readonly { readonly name: string; readonly length: bigint }[], verify: boolean): void {
    const lengths = new Map(blocks.map(({ name, length }) => [name, length]));
    for (const [name, { cold, hot, free }] of this.#blocks) {
      if (verify && free.size > 0) throw freeWithVerify();
      for (const set of [cold, hot, free]) for (const span of set) checkRange(name, span, lengths.get(name));
    }
  }

  /** The migration has ended. */
  detach(): void {
    this.#sealed = undefined;
    this.#verify = false;
    for (const hints of this.#blocks.values()) {
      delete hints.attached;
      hints.toClear.clear();
    }
  }

  /** What the destination is to clear now; it is told and forgotten here. */
  takeFreed(block: string): readonly Span[] {
    const hints = this.#blocks.get(block);
    const spans = [...(hints?.toClear ?? [])];
    hints?.toClear.clear();
    return spans;
  }

  /** Something has become free that the destination does not know of. */
  get hasFreed(): boolean {
    return [...this.#blocks.values()].some(({ toClear }) => toClear.size > 0);
  }

  /** The parts of a block with one temperature, ascending, cut at whole pages. All three together are the block. */
  spans({ name, length, mapping }: RamBlock, temperature: Temperature): readonly Span[] {
    const hints = this.#blocks.get(name);
    const found = new RangeSet();
    if (temperature === 'normal') found.add({ offset: 0n, length });
    else for (const span of hints?.[temperature] ?? []) found.add(span);
    if (temperature === 'normal')
      for (const set of [hints?.cold, hints?.hot]) for (const span of set ?? []) found.remove(span);
    return [...found].flatMap((span) => wholePages(span, BigInt(mapping.pageSize)));
  }

  /** Of a span: hot as soon as a part of it is hot, cold if nothing of it is anything else. */
  temperature(block: string, span: Span): Temperature {
    const hints = this.#blocks.get(block);
    if (hints === undefined) return 'normal';
    if (hints.hot.touches(span)) return 'hot';
    const cold = [...hints.cold.within(span)].reduce((sum, { length }) => sum + length, 0n);
    return cold === span.length ? 'cold' : 'normal';
  }

  #checked(block: string, range: Span, kind: HintKind): BlockHints {
    if (!KINDS.has(kind))
      throw invalid(`expected cold, hot, free or normal for a hint but received ${String(kind)}`);
    if (
      typeof range.offset !== 'bigint' ||
      typeof range.length !== 'bigint' ||
      range.offset < 0n ||
      range.length <= 0n
    )
      throw invalid(
        `expected a range of bytes as bigint for a hint but received ${range.offset}, ${range.length}`,
      );
    if (this.#sealed && !this.#sealed.has(block)) throw unknownBlock(block);
    if (kind === 'free' && this.#verify) throw freeWithVerify();
    const hints = this.#of(block);
    if (hints.attached) checkRange(block, range, hints.attached.length);
    return hints;
  }

  #of(block: string): BlockHints {
    let hints = this.#blocks.get(block);
    if (hints === undefined) {
      if (this.#blocks.size >= this.#maxRanges) throw this.#tooMany();
      hints = { cold: new RangeSet(), hot: new RangeSet(), free: new RangeSet(), toClear: new RangeSet() };
      this.#blocks.set(block, hints);
    }
    return hints;
  }

  #tooMany(): MigrationError {
    return new MigrationError(
      'INVALID_ARGUMENT',
      'configure',
      `a hint was refused: ${this.ranges} ranges are remembered, and ${this.#maxRanges} is the limit (maxRanges). Join neighbouring ranges, ` +
        'or take old hints back with normal',
      { details: { ranges: this.ranges, limit: this.#maxRanges } },
    );
  }
}

/** Whole pages only: the rest of a page may be in use. */
function clearBits({ attached, toClear }: BlockHints, { offset, length }: Span): void {
  if (!attached) return;
  const { pageSize, bitmap } = attached;
  const first = (offset + pageSize - 1n) / pageSize;
  const count = (offset + length) / pageSize - first;
  if (count <= 0n) return;
  bitmap.clearRange(Number(first), Number(count));
  toClear.add({ offset: first * pageSize, length: count * pageSize });
}

/** What was free counts again. The destination may have been told to clear it: it is sent. */
function withdraw(hints: BlockHints, span: Span): void {
  const taken = [...hints.free.within(span)];
  hints.free.remove(span);
  const { attached, toClear } = hints;
  if (!attached) return;
  const { pageSize, bitmap } = attached;
  for (const { offset, length } of taken) {
    const first = offset / pageSize;
    const end = (offset + length + pageSize - 1n) / pageSize;
    bitmap.setRange(Number(first), Number(end - first));
    toClear.remove({ offset: first * pageSize, length: (end - first) * pageSize });
  }
}

/** The range, and all of every range that it touches. */
function widened({ cold, hot, free }: BlockHints, range: Span): Span {
  let [from, to] = [range.offset, range.offset + range.length];
  for (const set of [cold, hot, free]) {
    for (const { offset, length } of set) {
      if (offset >= range.offset + range.length || offset + length <= range.offset) continue;
      if (offset < from) from = offset;
      if (offset + length > to) to = offset + length;
    }
  }
  return { offset: from, length: to - from };
}

/** Both ends rounded down, so that ranges that were neighbours still are. */
function wholePages({ offset, length }: Span, pageSize: bigint): Span[] {
  const from = (offset / pageSize) * pageSize;
  const to = ((offset + length) / pageSize) * pageSize;
  return to > from ? [{ offset: from, length: to - from }] : [];
}

const KINDS: ReadonlySet<string> = new Set(['cold', 'hot', 'free', 'normal'] satisfies HintKind[]);

function checkRange(block: string, { offset, length }: Span, blockLength: bigint | undefined): void {
  if (blockLength === undefined) throw unknownBlock(block);
  if (offset + length <= blockLength) return;
  throw invalid(`a hint covers ${length} bytes at ${offset} of block '${block}', which has ${blockLength}`);
}

const unknownBlock = (block: string): MigrationError =>
  invalid(`a hint names the block '${block}', which the VM does not have`);

const freeWithVerify = (): MigrationError =>
  invalid(
    'what is free is not sent and differs at the destination, so its RAM cannot be compared: give up the free hints, or verify',
  );

function invalid(message: string): MigrationError {
  return new MigrationError('INVALID_ARGUMENT', 'configure', message);
}
