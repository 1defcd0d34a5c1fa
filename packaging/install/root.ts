/**
 * A small Debian in a folder: neither compiler nor Node. Made once, unpacked for each use. One of another architecture has the files of Debian's
 * required packages, unpacked and not set up, which is enough for Node; its programs run by QEMU's user mode, which the kernel is told
 * in a namespace of its own (binfmt_misc is one for each user namespace since Linux 6.7), so that this machine stays as it is.
 */
import { existsSync } from 'node:fs';
import { copyFile, mkdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { output, run } from '../support/run.ts';
import type { Cell } from './cell.ts';

const MIRROR = 'http://deb.debian.org/debian';
/** Of this machine: how the registry is reached from inside. */
const NETWORK = ['/etc/resolv.conf', '/etc/hosts', '/etc/ssl/certs/ca-certificates.crt'];
/** A line for binfmt_misc: which programs are arm64's, and what runs them. Of Debian's qemu-user-static. */
const INTERPRETER = '/usr/lib/binfmt.d/qemu-aarch64.conf';

/** Its programs are not this machine's. */
export const isForeign = ({ arch }: Cell): boolean => arch !== process.arch;

async function base(cell: Cell, cache: string): Promise<string> {
  const { suite, debianArch } = cell;
  const archive = join(cache, `${suite}-${debianArch}.tar`);
  if (existsSync(archive)) return archive;
  const folder = join(cache, `${suite}-${debianArch}`);
  await rm(folder, { recursive: true, force: true });
  await mkdir(cache, { recursive: true });
  const options = ['--variant=minbase', `--arch=${debianArch}`];
  if (isForeign(cell)) options.push('--foreign');
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
  // Debian that has not been set up has a link to itself there.
  await rm(join(folder, 'proc'), { recursive: true, force: true });
  await mkdir(join(folder, 'proc'));
  for (const path of NETWORK) {
    await mkdir(join(folder, path, '..'), { recursive: true });
    await copyFile(path, join(folder, path));
  }
  await fromRegistry(`node-linux-${cell.arch}@${cell.node}`, cache, join(folder, 'opt/node'));
  await fromRegistry('npm@10', cache, join(folder, 'opt/npm'));
}

/** Runs a shell script in the root, with /proc; what it mounts, and what it is told of other architectures, ends with it. */
export async function inRoot(cell: Cell, folder: string, script: string): Promise<void> {
  const foreign = isForeign(cell);
  if (foreign && !existsSync(INTERPRETER))
    throw new Error(`no ${INTERPRETER}: apt-get install qemu-user-static`);
  const binfmt = '"$1/proc/sys/fs/binfmt_misc"';
  const inside = [
    'mount -t proc proc "$1/proc"',
    ...(foreign ? [`mount -t binfmt_misc none ${binfmt}`, `cat ${INTERPRETER} > ${binfmt}/register`] : []),
    'exec chroot "$1" /bin/sh -ec "$2"',
  ].join('\n');
  const env = { PATH: '/opt/node/bin:/usr/sbin:/usr/bin:/sbin:/bin', HOME: '/root' };
  const options = ['--mount', '--propagation', 'private', '--fork', '--kill-child'];
  if (foreign) options.push('--user', '--map-root-user', '--pid');
  await run('/usr/bin/unshare', [...options, '/bin/sh', '-ec', inside, 'sh', folder, script], { env });
}
