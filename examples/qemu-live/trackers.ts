/** How the guest's writes are detected. */
import { type DirtyTracker, type RamBlock, trackDirty } from 'rdma-migrate';
import type { Vm } from './bench.ts';

/**
 * `hash` compares contents and works everywhere; `soft-dirty` needs a kernel with CONFIG_MEM_SOFT_DIRTY. `none` treats every page as written: right for any
 * guest, and the downtime is that of a pass over all of its RAM.
 */
export const TRACKERS = ['hash', 'soft-dirty', 'none'] as const;
export type TrackerName = (typeof TRACKERS)[number];

export async function trackerOf(
  name: TrackerName,
  { qemu }: Vm,
  blocks: readonly RamBlock[],
): Promise<DirtyTracker> {
  if (name === 'none') return everyPage(blocks);
  // QEMU is the only one that writes: its vCPUs, and its devices, which it emulates itself.
  return trackDirty(blocks, { kind: name, ...(qemu.pid === undefined ? {} : { pid: qemu.pid }) });
}

function everyPage(blocks: readonly RamBlock[]): DirtyTracker {
  const nothing = async (): Promise<void> => {};
  return {
    kind: 'bitmap',
    start: nothing,
    stop: nothing,
    [Symbol.asyncDispose]: nothing,
    collect: async (bitmaps) => {
      for (const bitmap of bitmaps) bitmap.setRange(0, bitmap.pages);
      return blocks.reduce((sum, { mapping }) => sum + mapping.length / BigInt(mapping.pageSize), 0n);
    },
  };
}
