import type { TrackerKind } from '../tracker.ts';
import type { TrackerSupport, TrackOptions } from './options.ts';

export interface ChosenKind {
  readonly kind: TrackerKind;
  /** One line for logs and results. */
  readonly reason: string;
}

const HOW = {
  async: 'asynchronous write-protection (userfaultfd and PAGEMAP_SCAN)',
  'fault-thread': 'userfaultfd write-protection with a fault thread; Linux 6.7 needs none',
} as const;

/**
 * What `auto` takes: the VMM's own log if there is one, since it costs next to nothing and the VMM knows; soft-dirty bits if a process was named;
 * write-protection if the guest writes through this process's mappings; otherwise content, which sees every writer and costs most.
 */
export function chooseTracker(options: TrackOptions, support: TrackerSupport): ChosenKind {
  if (options.logs) return { kind: 'bitmap', reason: "the VMM's dirty logs were given" };
  if (options.pid !== undefined) {
    return support.softDirty
      ? { kind: 'soft-dirty', reason: `the kernel keeps soft-dirty bits of process ${options.pid}` }
      : { kind: 'hash', reason: 'the kernel keeps no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY)' };
  }
  if (!options.guestWritesHere) {
    return { kind: 'hash', reason: 'guestWritesHere is not set: the guest may write through other mappings' };
  }
  return support.writeProtect === null
    ? { kind: 'hash', reason: support.writeProtectProblem }
    : { kind: 'write-protect', reason: HOW[support.writeProtect] };
}
