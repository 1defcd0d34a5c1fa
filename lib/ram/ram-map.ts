/**
 * A picture of where a VM's RAM stands while it moves: cells of equal size, a few thousand for any VM, each with what is known of its pages. It
 * is made when somebody looks, from bitmaps that are there anyway, and costs nothing otherwise.
 */

/** So many cells at most, and one more for each block. */
const MOST_CELLS = 4096;

export interface MapBlock {
  readonly name: string;
  /** Bytes. */
  readonly length: bigint;
  readonly pageSize: number;
}

/** Which cell is what: the blocks one after the other, each of which begins with a cell of its own. */
export interface RamMapLayout {
  /** Bytes of a cell, a power of two and whole pages; the last one of a block may be short. */
  readonly cellBytes: number;
  readonly cells: number;
  readonly blocks: readonly { readonly name: string; readonly bytes: number; readonly cells: number }[];
}

/**
 * A cell's 16 bits. `waiting` and `zero` are shares of its pages, 0 for none to 15 for all; the rest has been sent, or at a destination has come.
 */
export const RAM_CELL = {
  /** Bits 0 to 3: pages that are to be sent still, or have not come. */
  waiting: 0,
  /** Bits 4 to 7: pages that hold nothing but zeros. */
  zero: 4,
  /** Bit 8: some of it is on its way. */
  inFlight: 1 << 8,
  /** Bit 9: all of it has been sent before: what waits was written by the guest since. */
  again: 1 << 9,
} as const;

/** What one end knows of its RAM. */
export interface CellSource {
  readonly layout: RamMapLayout;
  /** {@link RAM_CELL}, of every cell in the order of the layout. */
  cells(): Uint16Array;
}

/** Where the RAM of one migration stands. Before its blocks are known, and at an end that cannot see where RAM comes, it is empty. */
export class RamMap {
  #source: CellSource | undefined;
  #layout: RamMapLayout | undefined;
  #last: Uint16Array = new Uint16Array();

  /** Blocks and cells. undefined: RAM is not known yet, or has no map. */
  get layout(): RamMapLayout | undefined {
    return this.#layout;
  }

  /** Now; after the end, as it was then. {@link RAM_CELL} */
  read(): Uint16Array {
    if (this.#source) this.#last = this.#source.cells();
    return this.#last;
  }

  /** @internal The RAM is known. */
  open(source: CellSource): void {
    this.#source = source;
    this.#layout = source.layout;
  }

  /** @internal What it was made from can go. */
  close(): void {
    try {
      this.read();
    } catch {} // the picture before stays, and how the migration has ended is no matter of the map
    this.#source = undefined;
  }
}

/** Cells as small as their number allows. Blocks of any page sizes, none of them empty. */
export function layOutCells(blocks: readonly MapBlock[]): RamMapLayout {
  let cellBytes = Math.max(1, ...blocks.map(({ pageSize }) => pageSize));
  const cellsOf = ({ length }: MapBlock): number => Math.ceil(Number(length) / cellBytes);
  const all = (): number => blocks.reduce((sum, block) => sum + cellsOf(block), 0);
  while (all() > MOST_CELLS + blocks.length) cellBytes *= 2;
  return {
    cellBytes,
    cells: all(),
    blocks: blocks.map((block) => ({
      name: block.name,
      bytes: Number(block.length),
      cells: cellsOf(block),
    })),
  };
}

/** A share of 0 to 255, as bitmaps tell it, in 4 bits: still 0 of none alone, and 15 of all. */
export const shareBits = (share: number): number =>
  share === 0 || share === 255 ? share >> 4 : 1 + Math.floor(((share - 1) * 14) / 254);
