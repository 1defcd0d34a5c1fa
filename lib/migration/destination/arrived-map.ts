/** Which RAM has come to a destination, for whoever looks. */
import { native } from '../../native/index.ts';
import type { NativeCoverage } from '../../native/memory.ts';
import { type CellSource, layOutCells, RAM_CELL, type RamMapLayout, shareBits } from '../../ram/ram-map.ts';
import type { Span } from '../../ram/spans.ts';
import type { RamBlock } from '../../ram/vm.ts';
import type { Connection } from '../../transport/connection.ts';
import type { Told } from './told-pages.ts';

/** Zeros count as what has come. A page that comes again, and zeros that a source passes over without a word, nobody sees here. */
export class ArrivedMap implements CellSource, Told {
  readonly layout: RamMapLayout;
  readonly #told: NativeCoverage;
  readonly #pageSize: number;

  constructor(blocks: readonly RamBlock[], pageSize: number, told: NativeCoverage) {
    this.layout = layOutCells(blocks.map(({ name, length }) => ({ name, length, pageSize })));
    this.#told = told;
    this.#pageSize = pageSize;
  }

  /** Before the source has a key. Undefined: the provider does not tell which pages are written. */
  static watch(
    connection: Connection,
    blocks: readonly RamBlock[],
    pageSize: number,
  ): ArrivedMap | undefined {
    const lengths = blocks.map(({ length }) => length);
    const told = native.createCoverage(lengths, pageSize);
    const mappings = blocks.map(({ mapping }) => mapping);
    return connection.observePlacement(told, mappings) ? new ArrivedMap(blocks, pageSize, told) : undefined;
  }

  zeros(index: number, { offset, length }: Span): void {
    this.#told.add(index, offset, length);
  }

  registered(): void {}

  cells(): Uint16Array {
    const cells = new Uint16Array(this.layout.cells);
    let at = 0;
    for (const index of this.layout.blocks.keys())
      for (const share of this.#told.shares(index, this.layout.cellBytes / this.#pageSize))
        cells[at++] = (15 - shareBits(share)) << RAM_CELL.waiting;
    return cells;
  }
}
