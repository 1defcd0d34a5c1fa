/** What /proc says about this process and machine, for more than one room. */
import { readFileSync } from 'node:fs';

/** The text of a file in /proc or /sys; undefined: it does not exist or cannot be read. */
export type ReadText = (path: string) => string | undefined;

/** Of this machine. */
export function readText(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** The value in bytes of a line such as `MemAvailable:   23862452 kB`. */
export function kilobytesOf(text: string | undefined, key: string): bigint | undefined {
  const match = new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(text ?? '');
  return match?.[1] === undefined ? undefined : BigInt(match[1]) * 1024n;
}

/** linux/capability.h. */
const CAP_IPC_LOCK = 1n << 14n;

/** The bounds of the memory that this process may lock, and therefore pin. */
export interface LockedMemory {
  /** RLIMIT_MEMLOCK as /proc/self/limits has it: bytes, or `unlimited`; undefined: not known. */
  readonly soft: string | undefined;
  readonly hard: string | undefined;
  /** Bytes pinned already. */
  readonly pinned: bigint;
  /** With CAP_IPC_LOCK most drivers pin beyond the limit; `siw` ignores it. */
  readonly ipcLock: boolean;
}

export function lockedMemory(read: ReadText): LockedMemory {
  const [, soft, hard] = /^Max locked memory\s+(\S+)\s+(\S+)/m.exec(read('/proc/self/limits') ?? '') ?? [];
  const status = read('/proc/self/status');
  const capabilities = BigInt(`0x${/^CapEff:\s+([0-9a-f]+)/m.exec(status ?? '')?.[1] ?? '0'}`);
  return {
    soft,
    hard,
    pinned: kilobytesOf(status, 'VmPin') ?? 0n,
    ipcLock: (capabilities & CAP_IPC_LOCK) !== 0n,
  };
}

/** Files that this process may have open at one time (RLIMIT_NOFILE, soft); undefined: not known. */
export function openFilesLimit(read: ReadText): number | undefined {
  const [, soft] = /^Max open files\s+(\d+)/m.exec(read('/proc/self/limits') ?? '') ?? [];
  return soft === undefined ? undefined : Number(soft);
}
