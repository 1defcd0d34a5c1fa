/**
 * `npm run test:install -- TARBALL SUITE:NODE:ARCH ...` (`bookworm:20:amd64 trixie:24:amd64`): installs the tarball in an empty folder of a
 * Debian without a compiler, with --ignore-scripts, and does there what check.mjs lists. `here` instead of a field: on this machine, with its
 * Node, which takes seconds. Needs root and debootstrap; arm64 on x86-64 needs qemu-user-static. Debian's roots are kept in RDMA_MIGRATE_ROOTS
 * (/var/cache/rdma-migrate-roots).
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { CHECKOUT, endWith, run } from '../support/run.ts';
import { type Cell, cellOf } from './cell.ts';
import { makeProject, NPM_INSTALL } from './consumer.ts';
import { inRoot, isForeign, makeRoot } from './root.ts';

const CACHE = process.env.RDMA_MIGRATE_ROOTS ?? '/var/cache/rdma-migrate-roots';

const WITHOUT_COMPILER =
  'for tool in cc c++ gcc g++ clang make cmake; do if command -v $tool; then exit 1; fi; done';

const NPM_INSIDE = 'node /opt/npm/bin/npm-cli.js --cafile=/etc/ssl/certs/ca-certificates.crt';

async function here(tarball: string, folder: string): Promise<void> {
  await makeProject(folder, tarball, CHECKOUT);
  await run('npm', [...NPM_INSTALL, './package.tgz'], { cwd: folder });
  await run(process.execPath, ['check.mjs', 'prebuilt'], { cwd: folder });
}

/** Where every instruction is emulated npm would take ten minutes: this machine's installs for that one. */
const installFor = ({ arch }: Cell, cwd: string): Promise<void> =>
  run('npm', [...NPM_INSTALL, '--os=linux', `--cpu=${arch}`, '--libc=glibc', './package.tgz'], { cwd });

async function inDebian(name: string, tarball: string, folder: string): Promise<void> {
  const root = join(folder, 'root');
  const cell = cellOf(name);
  await makeRoot(cell, CACHE, root);
  await makeProject(join(root, 'work'), tarball, CHECKOUT);
  const scripts = [WITHOUT_COMPILER, 'cd /work', 'node --version'];
  if (isForeign(cell)) await installFor(cell, join(root, 'work'));
  else scripts.push(`${NPM_INSIDE} ${NPM_INSTALL.join(' ')} ./package.tgz`);
  const script = [...scripts, `node check.mjs prebuilt${isForeign(cell) ? ' emulated' : ''}`];
  await inRoot(cell, root, script.join('\n'));
}

async function main([tarball, ...names]: readonly string[]): Promise<void> {
  if (tarball === undefined || names.length === 0)
    throw new Error('usage: npm run test:install -- TARBALL SUITE:NODE:ARCH ... | here');
  for (const name of names) {
    console.log(`${name}:`);
    const folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-install-'));
    try {
      await (name === 'here' ? here(resolve(tarball), folder) : inDebian(name, resolve(tarball), folder));
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
    console.log(`${name}: passed`);
  }
}

await main(process.argv.slice(2)).catch(endWith);
