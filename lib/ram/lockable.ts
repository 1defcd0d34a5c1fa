/** How much memory this process may still pin. The reckoning is the kernel's and that of native/verbs/locked_memory. */
import { readFileSync } from 'node:fs';

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

/** The text of a file of /proc or /sys; undefined: it cannot be read. */
export type ReadText = (path: string) => string | undefined;

/** CAP_IPC_LOCK (linux/capability.h) lifts RLIMIT_MEMLOCK, with most drivers: `siw` does not care for it. */
const CAP_IPC_LOCK = 1n << 14n;

/** undefined: no limit is known. */
export function lockable(read: ReadText = readText): Lockable | undefined {
  const status = read('/proc/self/status') ?? '';
  const pinned = BigInt(/^VmPin:\s+(\d+) kB/m.exec(status)?.[1] ?? 0) * 1024n;
  const limits = [...lockedMemoryLimit(status, read), ...memoryLimits(read)];
  const [first] = limits.sort((a, b) => (a.limit < b.limit ? -1 : 1));
  if (first === undefined) return undefined;
  return { ...first, pinned, room: first.limit > pinned ? first.limit - pinned : 0n };
}

interface Limit {
  readonly limit: bigint;
  readonly source: string;
}

function lockedMemoryLimit(status: string, read: ReadText): Limit[] {
  const capabilities = BigInt(`0x${/^CapEff:\s+([0-9a-f]+)/m.exec(status)?.[1] ?? '0'}`);
  const soft = /^Max locked memory\s+(\d+)\s/m.exec(read('/proc/self/limits') ?? '')?.[1];
  if (soft === undefined || (capabilities & CAP_IPC_LOCK) !== 0n) return [];
  return [{ limit: BigInt(soft), source: 'RLIMIT_MEMLOCK' }];
}

/** Swap is no help: a pinned page stays in RAM. */
function memoryLimits(read: ReadText): Limit[] {
  const total = /^MemTotal:\s+(\d+) kB/m.exec(read('/proc/meminfo') ?? '')?.[1];
  const limits = total === undefined ? [] : [{ limit: BigInt(total) * 1024n, source: 'RAM' }];
  const own = /^0::(\/.*)$/m.exec(read('/proc/self/cgroup') ?? '')?.[1] ?? '';
  for (let group = own; group !== '' && group !== '/'; group = group.slice(0, group.lastIndexOf('/'))) {
    const source = `/sys/fs/cgroup${group}/memory.max`;
    const limit = /^(\d+)\s*$/.exec(read(source) ?? '')?.[1];
    if (limit !== undefined) limits.push({ limit: BigInt(limit), source });
  }
  return limits;
}

function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
