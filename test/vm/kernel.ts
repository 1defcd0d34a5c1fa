/** The kernel of the VM: Debian's own, unpacked but not installed. */
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { unavailable } from './failures.ts';
import { tool } from './tool.ts';

export interface KernelPackages {
  /** As `uname -r` gives it. */
  readonly version: string;
  readonly image: string;
  readonly headers: readonly string[];
  readonly source: string;
}

/** Names in `apt-cache depends NAME`. */
export function dependencies(listing: string): string[] {
  return [...listing.matchAll(/^\s*\|?Depends: ([a-z0-9][a-z0-9+.-]*)$/gm)].map(([, name]) => name as string);
}

/** The version of the one image for which Debian's linux-image-amd64 stands now. */
export function kernelVersion(listing: string): string | undefined {
  return dependencies(listing)
    .find((name) => /^linux-image-\d/.test(name))
    ?.slice('linux-image-'.length);
}

async function askVersion(): Promise<string | undefined> {
  return kernelVersion(await tool('apt-cache', ['depends', 'linux-image-amd64']));
}

/** @throws BenchError (exit code 69) if apt knows no such kernel */
export async function newestKernel(): Promise<KernelPackages> {
  let version = await askVersion();
  if (version === undefined && process.getuid?.() === 0) {
    await tool('apt-get', ['update']);
    version = await askVersion();
  }
  if (version === undefined)
    throw unavailable('apt knows no linux-image-amd64. Run apt-get update; it needs Debian 12');
  const image = `linux-image-${version}`;
  const headers = `linux-headers-${version}`;
  const needed = dependencies(await tool('apt-cache', ['depends', headers]));
  return {
    version,
    image,
    headers: [headers, ...needed.filter((name) => /^linux-(headers|kbuild)-/.test(name))],
    source: `linux-source-${/^\d+\.\d+/.exec(version)?.[0] ?? ''}`,
  };
}

/** Fetches packages and unpacks them below `root`. */
export async function unpackPackages(names: readonly string[], root: string): Promise<void> {
  const folder = `${root}.packages`;
  await mkdir(folder, { recursive: true });
  await mkdir(root, { recursive: true });
  await tool('apt-get', ['download', ...names], { cwd: folder });
  for (const file of await readdir(folder)) await tool('dpkg-deb', ['-x', join(folder, file), root]);
  await rm(folder, { recursive: true });
}

/**
 * Builds the siw module, which Debian's kernel leaves out, from the kernel's own source, and puts it where modprobe
 * finds it. `build` holds the unpacked headers and source.
 */
export async function addSiw(kernel: KernelPackages, build: string, modules: string): Promise<void> {
  const folder = 'drivers/infiniband/sw/siw';
  const tarball = join(build, 'usr/src', `${kernel.source}.tar.xz`);
  await tool('tar', ['xJf', tarball, `${kernel.source}/${folder}`], { cwd: build });
  const headers = join(build, 'usr/src', kernel.headers[0] as string);
  // The headers expect to be installed.
  const makefile = join(headers, 'Makefile');
  await writeFile(makefile, (await readFile(makefile, 'utf8')).replaceAll('/usr/src/', `${build}/usr/src/`));
  const module = join(build, kernel.source, folder);
  await tool('make', ['-C', headers, `M=${module}`, 'CC=gcc', 'CONFIG_RDMA_SIW=m', 'modules']);
  const extra = join(modules, kernel.version, 'extra');
  await mkdir(extra, { recursive: true });
  await rename(join(module, 'siw.ko'), join(extra, 'siw.ko'));
}
