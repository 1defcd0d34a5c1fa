import type { TrackerKind } from '../tracker.ts';
import type { RamBlock } from '../vm.ts';

/** `auto`: the best that the kernel, the memory and the options allow. */
export type TrackerChoice = 'auto' | TrackerKind;

/**
 * A VMM's dirty log of one block, in memory shared with this process: little-endian 64-bit words, bit i of word w is page 64 w + i. Whoever writes guest
 * memory sets the bit behind its write. In a memfd or file, or at an address in this process that stays mapped while it is tracked.
 */
export type DirtyLog = ({ readonly fd: number } | { readonly address: bigint }) & {
  /** Of the first word, in bytes; a multiple of 8. Default 0. */
  readonly offset?: bigint;
  /** Bytes that a bit stands for, a power of two; vhost's is 4096. Default: the block's page size. */
  readonly pageSize?: number;
};

export interface TrackOptions {
  readonly kind?: TrackerChoice;
  /**
   * Everything that writes guest memory does so through the very mappings of the blocks: vCPUs and device threads of this process. Without that, `auto` does
   * not take write-protect, which would miss other writers.
   */
  readonly guestWritesHere?: boolean;
  /** soft-dirty: the process whose writes count, the only one that writes. */
  readonly pid?: number;
  /** soft-dirty: where it has each block; default: found by the file behind both mappings. */
  readonly addresses?: readonly bigint[];
  /** soft-dirty: how it is held still for milliseconds in each collect. A cgroup: its folder in the cgroup v2 file system. */
  readonly pauseWriters?: 'signal' | { readonly cgroup: string };
  /** bitmap: one a block. */
  readonly logs?: readonly DirtyLog[];
  /** hash: threads that read at once, 1 to 64. Default: one for every two CPUs, at most 4. */
  readonly hashThreads?: number;
}

/** What the kernel has for these blocks; for none, for any memory that can be tracked at all. */
export interface TrackerSupport {
  /** Without a fault thread (Linux 6.7), with one, or not at all. */
  readonly writeProtect: 'async' | 'fault-thread' | null;
  /** Why not at all, with what to do; else empty. */
  readonly writeProtectProblem: string;
  readonly softDirty: boolean;
}
export type TrackerProbe = (blocks: readonly RamBlock[]) => Promise<TrackerSupport>;
