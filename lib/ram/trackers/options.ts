import type { TrackerKind } from '../tracker.ts';
import type { RamBlock } from '../vm.ts';

/** `auto`: the best that the kernel, the memory and the options allow. */
export type TrackerChoice = 'auto' | TrackerKind;

/**
 * A VMM's dirty log of one block, in memory shared with this process: little-endian 64-bit words, bit i of word w is page 64 w + i. Each writer of guest
 * memory sets the bit after its write. In a memfd or file, or at an address in this process that stays mapped while it is tracked.
 */
export type DirtyLog = ({ readonly fd: number } | { readonly address: bigint }) & {
  /** Where the first word is, in bytes; a multiple of 8. Default 0. */
  readonly offset?: bigint;
  /** Bytes per bit, a power of two; vhost's is 4096. Default: the block's page size. */
  readonly pageSize?: number;
};

/** What decides which tracker is taken. */
export interface TrackOptions {
  readonly kind?: TrackerChoice;
  /**
   * Everything that writes guest memory does so through the blocks' own mappings: vCPUs and device threads of this process. Unless this is set, `auto` does
   * not take write-protect, which would miss other writers.
   */
  readonly guestWritesHere?: boolean;
  /** soft-dirty: the process whose writes count, the only one that writes. */
  readonly pid?: number;
  /** soft-dirty: where it has each block; default: found by the file that both map. */
  readonly addresses?: readonly bigint[];
  /** soft-dirty: how it is stopped for milliseconds in each collect. A cgroup: its folder in the cgroup v2 file system. */
  readonly pauseWriters?: 'signal' | { readonly cgroup: string };
  /** bitmap: one per block. */
  readonly logs?: readonly DirtyLog[];
  /** hash: threads that read in parallel, 1 to 64. Default: one for every two CPUs, at most 4. */
  readonly hashThreads?: number;
}

/** What the kernel offers for these blocks; for no blocks, for any memory that can be tracked at all. */
export interface TrackerSupport {
  /** Without a fault thread (Linux 6.7), with one, or not at all. */
  readonly writeProtect: 'async' | 'fault-thread' | null;
  /** Why not at all, with what to do; else empty. */
  readonly writeProtectProblem: string;
  readonly softDirty: boolean;
}
export type TrackerProbe = (blocks: readonly RamBlock[]) => Promise<TrackerSupport>;
