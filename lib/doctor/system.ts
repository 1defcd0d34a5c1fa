import { readdirSync } from 'node:fs';
import { release } from 'node:os';
import { readText } from '../ram/proc.ts';

/** What the checks know about this machine. */
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
  /** The text of a file in /proc or /sys; undefined: it does not exist or cannot be read. */
  read(path: string): string | undefined;
  /** The names in a folder, sorted; none if it does not exist. */
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
    read: readText,
    list: namesIn,
  };
}

function namesIn(path: string): readonly string[] {
  try {
    return readdirSync(path).sort();
  } catch {
    return [];
  }
}

/** Whether a version such as `6.1.0-28-amd64` or `v20.20.2` is at least `major.minor`. */
export function atLeast(version: string, major: number, minor: number): boolean {
  const [, first, second] = /^v?(\d+)\.(\d+)/.exec(version) ?? [];
  if (first === undefined || second === undefined) return false;
  return Number(first) > major || (Number(first) === major && Number(second) >= minor);
}

export function gib(bytes: bigint): string {
  return `${(Number(bytes) / 2 ** 30).toFixed(1)} GiB`;
}
