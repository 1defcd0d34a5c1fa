/**
 * How much memory this process may still pin. The reckoning is the kernel's and that of native/verbs/locked_memory, which sees less:
 * only version 2 of the control groups, and only at /sys/fs/cgroup.
 */
import { cgroupMemory } from '../../ram/cgroup.ts';
import { kilobytesOf, type LockedMemory, lockedMemory, type ReadText, readText } from '../../ram/proc.ts';

/** The limit that is met first. */
export interface Lockable {
  /** Bytes that may still be pinned. */
  readonly room: bigint;
  /** Bytes in all, and pinned by this process already. */
  readonly limit: bigint;
  readonly pinned: bigint;
  /** `RLIMIT_MEMLOCK`, the cgroup's file, or `RAM`. */
  readonly source: string;
}

/** undefined: no limit is known. */
export function lockable(read: ReadText = readText): Lockable | undefined {
  const locked = lockedMemory(read);
  const { pinned } = locked;
  const limits = [...memlockLimit(locked), ...memoryLimits(read)];
  const [first] = limits.sort((a, b) => (a.limit < b.limit ? -1 : 1));
  if (first === undefined) return undefined;
  return { ...first, pinned, room: first.limit > pinned ? first.limit - pinned : 0n };
}

interface Limit {
  readonly limit: bigint;
  readonly source: string;
}

function memlockLimit({ soft = '', ipcLock }: LockedMemory): Limit[] {
  return /^\d+$/.test(soft) && !ipcLock ? [{ limit: BigInt(soft), source: 'RLIMIT_MEMLOCK' }] : [];
}

/** Swap is no help: a pinned page stays in RAM. */
function memoryLimits(read: ReadText): Limit[] {
  const total = kilobytesOf(read('/proc/meminfo'), 'MemTotal');
  const groups = cgroupMemory(read).limits.filter(({ kind }) => kind === 'max');
  return [
    ...(total === undefined ? [] : [{ limit: total, source: 'RAM' }]),
    ...groups.map(({ limit, file }) => ({ limit, source: file })),
  ];
}
