/** What an embedder knows about its guest's memory and a migration does not. */
import { HintBook, type HintKind } from './hint-book.ts';
import type { Span } from './spans.ts';

export type { HintKind } from './hint-book.ts';

/** What a migration reads of hints, and embedders do not see. */
export let bookOf: (hints: MigrationHints) => HintBook;

/**
 * Hints by RAM block, before and during a migration. Calls take effect at once; what has already been sent is not taken back.
 *
 * A `free` range stays free until it is written, which the dirty tracker of a running guest notices, or declared `normal`. Before the
 * tracker runs (it is started when the RAM phase begins) writes are not noticed: say `normal` before the guest may use the range again.
 */
export class MigrationHints {
  readonly #book: HintBook;

  static {
    bookOf = (hints) => hints.#book;
  }

  /**
   * `maxRanges`: how many ranges are remembered at most, neighbours counted as one. Default 4096.
   * @throws MigrationError INVALID_ARGUMENT
   */
  constructor(options: { maxRanges?: number } = {}) {
    this.#book = new HintBook(options);
  }

  /**
   * Says what is known about a range, in bytes from the start of the block. It replaces earlier hints for the range. `free` counts for the
   * whole pages within the range.
   * @throws MigrationError INVALID_ARGUMENT: an unknown block or kind, a range that leaves its block, more ranges than are remembered, or
   *   `free` in a migration that compares digests of all RAM; nothing has changed then
   */
  hint(block: string, range: Span, kind: HintKind): void {
    this.#book.hint(block, range, kind);
  }

  /** Ranges remembered in all. */
  get ranges(): number {
    return this.#book.ranges;
  }
}
