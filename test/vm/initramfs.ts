/** What the kernel starts from: busybox, the modules that reach the shares, and guest/init.sh. */
import { chmod, copyFile, mkdir, rm } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { unavailable } from './failures.ts';
import { tool } from './tool.ts';

const MODULES = ['virtio_pci', 'virtio_net', 'virtio_console', '9pnet_virtio', '9p', 'overlay'];

/** Module files of `modprobe --show-depends`, in the order in which they must be loaded. */
export function moduleFiles(listing: string): string[] {
  return [...listing.matchAll(/^insmod (\S+)/gm)].map(([, path]) => path as string);
}

export interface InitramfsParts {
  /** Holds lib/modules. */
  readonly root: string;
  readonly version: string;
  readonly busybox: string;
  readonly init: string;
  readonly output: string;
}

/** @throws BenchError (exit code 69) */
export async function buildInitramfs({
  root,
  version,
  busybox,
  init,
  output,
}: InitramfsParts): Promise<void> {
  const folder = `${output}.content`;
  for (const name of ['bin', 'modules']) await mkdir(join(folder, name), { recursive: true });
  const list = await tool('modprobe', ['-d', root, '-S', version, '-a', '--show-depends', ...MODULES]);
  const files = [...new Set(moduleFiles(list))];
  if (files.length < MODULES.length) throw unavailable(`modprobe finds too few modules: ${list}`);
  for (const [index, file] of files.entries()) {
    const name = `${String(index).padStart(2, '0')}-${basename(file)}`;
    await copyFile(file, join(folder, 'modules', name));
  }
  await copyFile(busybox, join(folder, 'bin/busybox'));
  await tool('ln', ['-s', 'busybox', join(folder, 'bin/sh')]);
  await copyFile(init, join(folder, 'init'));
  await chmod(join(folder, 'init'), 0o755);
  const pack = 'find . | "$1" cpio -o -H newc | gzip -1 >"$2"';
  await tool('sh', ['-c', pack, 'sh', busybox, output], { cwd: folder });
  await rm(folder, { recursive: true });
}
