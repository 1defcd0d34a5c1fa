/** How the guest's writes are noticed. */
import type { DirtyTracker, RamBlock } from 'rdma-migrate';
import type { Vm } from './bench.ts';

/** `none` takes every page for written: right for any guest, and the downtime is that of a whole pass. */
export const TRACKERS = ['none'] as const;
export type TrackerName = (typeof TRACKERS)[number];

export function trackerOf(_name: TrackerName, _vm: Vm, blocks: readonly RamBlock[]): DirtyTracker {
  return everyPage(blocks);
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
