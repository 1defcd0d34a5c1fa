/** How the writes of a QEMU's guest are detected. */
import type { DirtyTracker } from '../ram/tracker.ts';
import { trackDirty } from '../ram/trackers/index.ts';
import type { RamBlock } from '../ram/vm.ts';
import type { SharedBlock } from './memory.ts';
import { othersThatMap } from './process.ts';

/**
 * `hash` compares contents and works everywhere; `soft-dirty` needs a kernel with CONFIG_MEM_SOFT_DIRTY and sees only QEMU itself; `none` treats every page
 * as written: right for any guest, and the downtime is that of a pass over all of its RAM.
 */
export const TRACKER_WISHES = ['auto', 'soft-dirty', 'hash', 'none'] as const;
/** How the guest's writes are to be detected. `auto`: soft-dirty where it applies, otherwise hash. `none`: the guest is paused for all of the migration. */
export type TrackerWish = (typeof TRACKER_WISHES)[number];

/** For people. */
const COSTS: Readonly<Record<string, string>> = {
  'soft-dirty':
    'it stops QEMU for milliseconds in each round, and the first write to a page after that costs a fault',
  hash: 'all RAM is read in each round, also while the guest stands still',
};

export interface TrackerChoiceOf {
  readonly pid: number;
  readonly shared: readonly SharedBlock[];
  readonly wish: TrackerWish;
}

/** @throws MigrationError TRACKER_UNAVAILABLE, OUT_OF_MEMORY */
export async function pickTracker(
  blocks: readonly RamBlock[],
  { pid, shared, wish }: TrackerChoiceOf,
): Promise<DirtyTracker & { readonly reason: string }> {
  if (wish === 'none') return everyPage(blocks);
  const others = wish === 'auto' ? await writersBeside(pid, shared) : [];
  const tracker = await trackDirty(blocks, {
    ...(others.length > 0 ? { kind: 'hash' } : { kind: wish, pid }),
    addresses: blocks.map(({ name }) => shared.find((block) => block.name === name)?.hostAddress ?? 0n),
  });
  const why =
    others.length > 0 ? `process ${others[0]} has the RAM mapped too (vhost-user?)` : tracker.reason;
  return withReason(tracker, `${why}; ${COSTS[tracker.kind] ?? ''}`);
}

async function writersBeside(pid: number, shared: readonly SharedBlock[]): Promise<number[]> {
  const found = await Promise.all(shared.map(({ range }) => othersThatMap(pid, range)));
  return found.flat();
}

function withReason(tracker: DirtyTracker, reason: string): DirtyTracker & { readonly reason: string } {
  return {
    kind: tracker.kind,
    reason,
    ...(tracker.sent && { sent: tracker.sent }),
    start: () => tracker.start(),
    collect: (bitmaps) => tracker.collect(bitmaps),
    stop: () => tracker.stop(),
    [Symbol.asyncDispose]: () => tracker[Symbol.asyncDispose](),
  };
}

function everyPage(blocks: readonly RamBlock[]): DirtyTracker & { readonly reason: string } {
  const nothing = async (): Promise<void> => {};
  return {
    kind: 'bitmap',
    reason: 'every page counts as written: the guest stands still for a pass over all of its RAM',
    start: nothing,
    stop: nothing,
    [Symbol.asyncDispose]: nothing,
    collect: async (bitmaps) => {
      for (const bitmap of bitmaps) bitmap.setRange(0, bitmap.pages);
      return blocks.reduce((sum, { mapping }) => sum + mapping.length / BigInt(mapping.pageSize), 0n);
    },
  };
}
