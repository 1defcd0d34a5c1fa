/** What a pass over RAM is given and what it has done: the pass, and the loop that repeats it while a guest runs, share this. */
import type { NativeBitmap } from '../native/memory.ts';
import type { PinnedBlock } from './pins/source-pins.ts';

/** A block of the source, its counterpart at the destination, and what is still to be sent of it. */
export interface SourceBlock extends PinnedBlock {
  /**
   * Bits are set between passes: `sendRam` sends zero ranges after the data. While one runs only a hint sets any, of pages that were
   * free; what a guest writes there meanwhile is the tracker's, and goes with the next pass.
   */
  readonly bitmap: NativeBitmap;
  /** The destination's is zero throughout still: no pass has gone over it. Kept by `sendRam`; false where that is not known. */
  fresh: boolean;
}

/** What one pass has done. */
export interface RamPassResult {
  readonly pages: bigint;
  readonly bytes: bigint;
  readonly zeroBytes: bigint;
}

/** What a pass cost beside its control messages, milliseconds. */
export interface PassCosts {
  /** Its pages were on the wire. */
  readonly wireMs: number;
  /** The wire had to wait for what belongs to the pages: scanning, registering. Not what max-bandwidth took. */
  readonly overheadMs: number;
}
