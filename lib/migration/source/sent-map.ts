/** What of its RAM a source has sent, for whoever looks: read from the bitmaps that the passes work with. */
import { native } from '../../native/index.ts';
import type { NativeBitmap, NativeRuns } from '../../native/memory.ts';
import { COUNTER } from '../../native/transport.ts';
import { type CellSource, layOutCells, RAM_CELL, type RamMapLayout, shareBits } from '../../ram/ram-map.ts';
import { runs, type Span } from '../../ram/spans.ts';
import type { Connection } from '../../transport/connection.ts';
import type { SourceBlock } from '../ram-round.ts';

/** The writer has no more under way, over all channels: kMaxOutstandingBytes. */
const MOST_OUTSTANDING = 16 << 20;

interface MappedBlock {
  readonly bitmap: NativeBitmap;
  /** Pages that were zero when they were looked at last. */
  readonly zeros: NativeBitmap;
  readonly pageSize: number;
  readonly pagesPerCell: number;
  readonly firstCell: number;
  /** `held`: nothing of it was to be sent yet. `first`: its first pass is not over. */
  state: 'held' | 'first' | 'again';
}

/** Cells of the whole map, both ends included. */
interface CellRange {
  readonly first: number;
  readonly last: number;
}

export class SentMap implements CellSource {
  readonly layout: RamMapLayout;
  readonly #blocks: readonly MappedBlock[];
  /** Of write jobs that are not over, the oldest first. */
  readonly #flying = new Set<readonly CellRange[]>();
  readonly #outstanding: () => number;

  /** `outstanding`: bytes that have been posted and have not left yet. */
  constructor(blocks: readonly SourceBlock[], outstanding: () => number) {
    this.#outstanding = outstanding;
    this.layout = layOutCells(blocks.map(({ block }) => ({ ...block, pageSize: block.mapping.pageSize })));
    let firstCell = 0;
    this.#blocks = blocks.map(({ block, bitmap }, index) => {
      const { pageSize } = block.mapping;
      const mapped: MappedBlock = {
        bitmap,
        zeros: native.createBitmap(bitmap.pages),
        pageSize,
        pagesPerCell: this.layout.cellBytes / pageSize,
        firstCell,
        state: 'held',
      };
      firstCell += this.layout.blocks[index]?.cells ?? 0;
      return mapped;
    });
  }

  /** Where pages of a block that are found zero are noted. */
  zerosOf({ index }: SourceBlock): NativeBitmap {
    return this.#block(index).zeros;
  }

  /** Pages that are told as zeros without having been looked at. */
  freed({ index }: SourceBlock, { offset, length }: Span): void {
    const { zeros, pageSize } = this.#block(index);
    zeros.setRange(Number(offset) / pageSize, Number(length) / pageSize);
  }

  /** A pass begins; what is to be sent is known. */
  passBegins(): void {
    for (const block of this.#blocks)
      if (block.state === 'held' && block.bitmap.count() > 0) block.state = 'first';
  }

  passEnds(): void {
    for (const block of this.#blocks) if (block.state === 'first') block.state = 'again';
  }

  /** These spans have been given to the writer, which takes them in this order; `job` is over when they have left. */
  flies({ index }: SourceBlock, spans: NativeRuns, job: Promise<unknown>): void {
    const ranges = this.#rangesOf(index, spans);
    this.#flying.add(ranges);
    const over = (): void => void this.#flying.delete(ranges);
    job.then(over, over);
  }

  cells(): Uint16Array {
    const cells = new Uint16Array(this.layout.cells);
    for (const block of this.#blocks) this.#fill(cells, block);
    this.#markFlying(cells);
    return cells;
  }

  #fill(cells: Uint16Array, { bitmap, zeros, pagesPerCell, firstCell, state }: MappedBlock): void {
    const waiting = bitmap.shares(pagesPerCell);
    const zero = zeros.shares(pagesPerCell);
    for (let at = 0; at < waiting.length; at++) {
      const waits = state === 'held' ? 15 : shareBits(waiting[at] as number);
      cells[firstCell + at] =
        (waits << RAM_CELL.waiting) |
        (Math.min(15 - waits, shareBits(zero[at] as number)) << RAM_CELL.zero) |
        (state === 'again' ? RAM_CELL.again : 0);
    }
  }

  /** What was taken last and has not left yet: so many bytes before where the writer is. */
  #markFlying(cells: Uint16Array): void {
    let left = this.#outstanding();
    for (const ranges of [...this.#flying].reverse())
      for (const { first, last } of ranges.toReversed())
        for (let cell = last; cell >= first && left > 0; cell--) {
          const taken = 15 - ((cells[cell] as number) & 15);
          if (taken === 0) continue;
          (cells[cell] as number) |= RAM_CELL.inFlight;
          left -= (this.layout.cellBytes * taken) / 15;
        }
  }

  #rangesOf(index: number, spans: NativeRuns): readonly CellRange[] {
    const { firstCell } = this.#block(index);
    const { cellBytes } = this.layout;
    const ranges: { first: number; last: number }[] = [];
    for (const { offset, length } of runs(spans)) {
      const first = firstCell + Math.floor(Number(offset) / cellBytes);
      const last = firstCell + Math.floor((Number(offset + length) - 1) / cellBytes);
      const before = ranges.at(-1);
      if (before && first >= before.first && first <= before.last + 1)
        before.last = Math.max(last, before.last);
      else ranges.push({ first, last });
    }
    return ranges;
  }

  #block(index: number): MappedBlock {
    return this.#blocks[index] as MappedBlock;
  }
}

/** Bytes that have been posted and have not left yet. Where blocks have pages of several sizes posted pages tell no bytes: the most there can be. */
export function outstandingBytes(
  { counters }: Pick<Connection, 'counters'>,
  blocks: readonly SourceBlock[],
): number {
  const sizes = new Set(blocks.map(({ block }) => block.mapping.pageSize));
  const [pageSize = 0] = sizes;
  if (sizes.size !== 1) return MOST_OUTSTANDING;
  const posted = Number(counters[COUNTER.pagesPosted] as bigint) * pageSize;
  const bytes = posted - Number(counters[COUNTER.bytesCompleted] as bigint);
  return Math.min(MOST_OUTSTANDING, Math.max(0, bytes));
}
