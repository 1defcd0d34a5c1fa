/** Which pages a source has told of, as far as this end learns of it. */
import { native } from '../../native/index.ts';
import type { NativeCoverage } from '../../native/memory.ts';
import type { Agreed } from '../../protocol/capabilities.ts';
import type { DeviceStateResult } from '../../protocol/tail.ts';
import {
  type Coverage,
  type GapCause,
  type MissingPages,
  missingPagesError,
  unknownCoverage,
  WHOLE,
  withGaps,
} from '../../ram/coverage.ts';
import type { Span } from '../../ram/spans.ts';
import type { RamBlock } from '../../ram/vm.ts';
import type { Connection } from '../../transport/connection.ts';

const DEVICE = 'an RDMA device places what the source writes and does not say which pages that were';
const ADVICE =
  'The source stopped early, or has a capability on that sends pages another way: migrate again with only those that docs/qemu.md lists';

/** Hears of what a source says of its pages. */
export interface Told {
  /** The source has told that it is zero. */
  zeros(index: number, span: Span): void;
  /** The source has asked for a key to write there. */
  registered(index: number, span: Span): void;
}

/**
 * The software RNIC sees every page that is written. A device writes without a word: there a page may have come if its chunk was registered,
 * and certainly has not if it was neither registered nor told to be zeros.
 */
export class ToldPages implements Told {
  readonly #blocks: readonly RamBlock[];
  readonly #agreed: Agreed;
  readonly #pageSize: number;
  readonly #told: NativeCoverage;
  readonly #sees: boolean;

  /** Before the source has a key. */
  constructor(connection: Connection, blocks: readonly RamBlock[], agreed: Agreed, pageSize: number) {
    this.#blocks = blocks;
    this.#agreed = agreed;
    this.#pageSize = pageSize;
    const lengths = blocks.map(({ length }) => length);
    this.#told = native.createCoverage(lengths, pageSize);
    const mappings = blocks.map(({ mapping }) => mapping);
    this.#sees = connection.observePlacement(this.#told, mappings);
    if (!this.#sees && agreed.pinAll)
      for (const [index, length] of lengths.entries()) this.#told.add(index, 0n, length);
  }

  /** Every page that was told of; undefined: nobody sees which were written. */
  get seen(): NativeCoverage | undefined {
    return this.#sees ? this.#told : undefined;
  }

  zeros(index: number, { offset, length }: Span): void {
    this.#told.add(index, offset, length);
  }

  registered(index: number, { offset, length }: Span): void {
    if (!this.#sees) this.#told.add(index, offset, length);
  }

  /**
   * What is known when all of RAM has come.
   * @throws MigrationError STREAM_TRUNCATED: pages are missing, and nothing says that they may be
   */
  coverage(state: DeviceStateResult): Coverage {
    const missing = this.#missing();
    const bytes = missing.reduce((sum, { pages }) => sum + pages, 0n) * BigInt(this.#pageSize);
    if (bytes === 0n) return this.#sees ? WHOLE : unknownCoverage(DEVICE);
    const causes: readonly GapCause[] = [
      ...(this.#agreed.sparse ? (['sparse'] as const) : []),
      ...((state.complete && state.mayLeaveOut) || []),
    ];
    if (causes.length > 0) return withGaps(bytes, causes);
    throw missingPagesError('commit', 'the source', missing, ADVICE);
  }

  #missing(): MissingPages[] {
    const pageSize = BigInt(this.#pageSize);
    return this.#told.missing().map(({ block, pages, first }) => {
      const { name, length } = this.#blocks[block] as RamBlock;
      return { name, pages, first, of: length / pageSize };
    });
  }
}
