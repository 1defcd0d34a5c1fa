/** A small Debian in a folder: neither compiler nor Node. Made once, unpacked for each use. */
import { existsSync } from 'node:fs';
import { copyFile, cp, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { output, run } from '../support/run.ts';
import type { Cell } from './cell.ts';

const MIRROR = 'http://deb.debian.org/debian';
/** Of this machine: how the registry is reached from inside. */
const NETWORK = ['/etc/resolv.conf', '/etc/hosts', '/etc/ssl/certs/ca-certificates.crt'];
const QEMU = '/usr/bin/qemu-aarch64-static';

async function base({ suite, debianArch }: Cell, cache: string): Promise<string> {
  const archive = join(cache, `${suite}-${debianArch}.tar`);
  if (existsSync(archive)) return archive;
  const folder = join(cache, `${suite}-${debianArch}`);
  await rm(folder, { recursive: true, force: true });
  await mkdir(cache, { recursive: true });
  const options = ['--variant=minbase', `--arch=${debianArch}`];
  const foreign = debianArch === 'arm64' && process.arch !== 'arm64';
  if (foreign && !existsSync(QEMU))
    throw new Error(`no ${QEMU}: apt-get install qemu-user-static binfmt-support`);
  await run('debootstrap', [...options, suite, folder, MIRROR]);
  await run('tar', ['-cf', `${archive}.new`, '-C', folder, '.']);
  await rename(`${archive}.new`, archive);
  await rm(folder, { recursive: true });
  return archive;
}

/** Packs a package of the npm registry and unpacks it. */
async function fromRegistry(spec: string, cache: string, folder: string): Promise<void> {
  const text = await output('npm', ['pack', spec, '--json', '--pack-destination', cache]);
  const packed = JSON.parse(text) as { filename: string }[];
  const { filename } = packed.at(-1) as { filename: string };
  await mkdir(folder, { recursive: true });
  await run('tar', ['-xzf', join(cache, filename), '-C', folder, '--strip-components=1']);
}

/** Makes the root in a new folder, with Node in /opt/node and npm in /opt/npm. */
export async function makeRoot(cell: Cell, cache: string, folder: string): Promise<void> {
  await mkdir(folder, { recursive: true });
  await run('tar', ['-xf', await base(cell, cache), '-C', folder]);
  for (const path of NETWORK) {
    await mkdir(join(folder, path, '..'), { recursive: true });
    await copyFile(path, join(folder, path));
  }
  await fromRegistry(`node-linux-${cell.arch}@${cell.node}`, cache, join(folder, 'opt/node'));
  await fromRegistry('npm@10', cache, join(folder, 'opt/npm'));
  if (cell.arch !== process.arch && existsSync(QEMU)) await cp(QEMU, join(folder, QEMU));
}

/** Runs a shell script in the root, with /proc; what it mounts ends with it. */
export async function inRoot(folder: string, script: string): Promise<void> {
  const inside = 'mount -t proc proc "$1/proc" && exec chroot "$1" /bin/sh -ec "$2"';
  const env = { PATH: '/opt/node/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };
  const options = ['--mount', '--propagation', 'private', '--fork', '--kill-child'];
  await run('/usr/bin/unshare', [...options, '/bin/sh', '-ec', inside, 'sh', folder, script], { env });
}
