import { readdirSync, readFileSync } from 'node:fs';
import { release } from 'node:os';

/** What the checks know this machine by. */
export interface System {
  /** Such as `v20.18.0`. */
  readonly nodeVersion: string;
  /** `process.platform`, `process.arch`. */
  readonly platform: string;
  readonly arch: string;
  /** `uname -r`. */
  readonly kernel: string;
  /** Folders where programs are looked for. */
  readonly path: readonly string[];
  /** The text of a file of /proc or /sys; undefined: it is not there or cannot be read. */
  read(path: string): string | undefined;
  /** The names in a folder, sorted; none if it is not there. */
  list(path: string): readonly string[];
}

/** This machine. */
export function thisSystem(): System {
  return {
    nodeVersion: process.version,
    platform: process.platform,
    arch: process.arch,
    kernel: release(),
    path: (process.env.PATH ?? '').split(':').filter((folder) => folder.startsWith('/')),
    read: (path) => attempt(() => readFileSync(path, 'utf8')),
    list: (path) => attempt(() => readdirSync(path).sort()) ?? [],
  };
}

function attempt<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch {
    return undefined;
  }
}

/** Whether a version such as `6.1.0-28-amd64` or `v20.20.2` is at least `major.minor`. */
export function atLeast(version: string, major: number, minor: number): boolean {
  const [, first, second] = /^v?(\d+)\.(\d+)/.exec(version) ?? [];
  if (first === undefined || second === undefined) return false;
  return Number(first) > major || (Number(first) === major && Number(second) >= minor);
}

/** The value in bytes of a line such as `MemAvailable:   23862452 kB`. */
export function kilobytesOf(text: string | undefined, key: string): bigint | undefined {
  const match = new RegExp(`^${key}:\\s+(\\d+) kB`, 'm').exec(text ?? '');
  return match?.[1] === undefined ? undefined : BigInt(match[1]) * 1024n;
}

export function gib(bytes: bigint): string {
  return `${(Number(bytes) / 2 ** 30).toFixed(1)} GiB`;
}
