/** One field of the installation matrix: a Debian, a Node, an architecture. */
import { type Architecture, targetOf } from '../prebuild/targets.ts';

const SUITES = ['bookworm', 'trixie'] as const;
/** Debian's names. */
const ARCHITECTURES = { amd64: 'x64', arm64: 'arm64' } as const;

export interface Cell {
  readonly suite: (typeof SUITES)[number];
  /** A version or range of Node, such as `22` or `20.19.0`. */
  readonly node: string;
  readonly debianArch: keyof typeof ARCHITECTURES;
  /** Node's name. */
  readonly arch: Architecture;
}

/** Reads `SUITE:NODE:ARCH`, such as `bookworm:20:amd64`. */
export function cellOf(text: string): Cell {
  const [, suiteName, node = '', archName] = /^(\w+):(\d+(?:\.\d+){0,2}):(\w+)$/.exec(text) ?? [];
  const suite = SUITES.find((known) => known === suiteName);
  if (suite === undefined || (archName !== 'amd64' && archName !== 'arm64'))
    throw new Error(`expected SUITE:NODE:ARCH such as bookworm:20:amd64 but received ${text}`);
  return { suite, node, debianArch: archName, arch: targetOf(ARCHITECTURES[archName]).arch };
}
