/** The machines that there are prebuilt addons for, and what builds and reads their programs on Debian. */
export const ARCHITECTURES = ['x64', 'arm64'] as const;
export type Architecture = (typeof ARCHITECTURES)[number];

/** The oldest glibc that prebuilt addons load with: that of RHEL 8 and Debian 10. */
export const GLIBC_FLOOR: readonly number[] = [2, 28];

export interface Target {
  readonly arch: Architecture;
  /** Before the names of gcc and binutils. */
  readonly prefix: string;
  /** CMake's. */
  readonly processor: string;
  /** Where the C library that the compiler links with is. */
  readonly libraries: string;
  /** The dynamic linker, which offers symbols too. */
  readonly loader: string;
  /** Debian's packages that have all of this. */
  readonly packages: string;
}

const TARGETS: Readonly<Record<Architecture, Target>> = {
  x64: {
    arch: 'x64',
    prefix: 'x86_64-linux-gnu-',
    processor: 'x86_64',
    libraries: '/usr/lib/x86_64-linux-gnu',
    loader: 'ld-linux-x86-64.so.2',
    packages: 'g++ libibverbs-dev librdmacm-dev cmake ninja-build',
  },
  arm64: {
    arch: 'arm64',
    prefix: 'aarch64-linux-gnu-',
    processor: 'aarch64',
    libraries: '/usr/aarch64-linux-gnu/lib',
    loader: 'ld-linux-aarch64.so.1',
    packages: 'g++-aarch64-linux-gnu libibverbs-dev librdmacm-dev cmake ninja-build',
  },
};

export function targetOf(name: string): Target {
  const arch = ARCHITECTURES.find((known) => known === name);
  if (arch === undefined) throw new Error(`expected ${ARCHITECTURES.join(' or ')} but received ${name}`);
  return TARGETS[arch];
}
