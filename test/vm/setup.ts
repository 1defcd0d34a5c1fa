/** What the bench keeps between runs: a kernel with its modules and an initramfs, in a cache outside the checkout. */
import { createHash } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { join } from 'node:path';
import { guestFile } from './checkout.ts';
import { buildInitramfs } from './initramfs.ts';
import { addSiw, newestKernel, unpackPackages } from './kernel.ts';
import { withLock } from './lock.ts';
import { ensurePackages } from './packages.ts';
import { tool } from './tool.ts';

export interface Bench {
  readonly kernel: string;
  readonly initramfs: string;
  readonly modules: string;
}

/** Changes when a cache made by an older bench must be rebuilt. */
const RECIPE = 1;

export function cacheFolder(env: NodeJS.ProcessEnv = process.env): string {
  // The XDG base directory specification: a relative path counts as unset.
  const base = env.XDG_CACHE_HOME?.startsWith('/') ? env.XDG_CACHE_HOME : join(homedir(), '.cache');
  return join(base, 'rdma-migrate');
}

async function recipe(): Promise<string> {
  const init = await readFile(guestFile('init.sh'));
  return createHash('sha256').update(`${RECIPE}\n`).update(init).digest('hex');
}

const benchIn = (folder: string): Bench => ({
  kernel: join(folder, 'vmlinuz'),
  initramfs: join(folder, 'initramfs'),
  modules: join(folder, 'lib/modules'),
});

/** The newest complete one. `recipe` is written last, and a folder gets its name when it is complete. */
async function findReady(cache: string): Promise<Bench | undefined> {
  const wanted = await recipe();
  const names = await readdir(cache).catch(() => []);
  const versions = names.filter((name) => /^vm-\d[^/]*$/.test(name) && !name.includes('.partial'));
  const byAge = new Intl.Collator('en', { numeric: true });
  for (const name of versions.sort(byAge.compare).reverse()) {
    const made = await readFile(join(cache, name, 'recipe'), 'utf8').catch(() => '');
    if (made === wanted) return benchIn(join(cache, name));
  }
  return undefined;
}

/** A killed set-up may have left a tool that still writes: hence the retries. */
async function removePartials(cache: string): Promise<void> {
  for (const name of await readdir(cache)) {
    if (name.startsWith('vm-') && name.includes('.partial'))
      await rm(join(cache, name), { recursive: true, force: true, maxRetries: 10, retryDelay: 500 });
  }
}

async function make(cache: string, say: (text: string) => void): Promise<Bench> {
  const kernel = await newestKernel();
  const final = join(cache, `vm-${kernel.version}`);
  const partial = await mkdtemp(`${final}.partial-`);
  const root = join(partial, 'root');
  const build = join(partial, 'build');
  say(`fetching ${kernel.image}, its headers and its source (230 MB)`);
  await unpackPackages([kernel.image, 'busybox-static'], root);
  await unpackPackages([...kernel.headers, kernel.source], build);
  say('building siw (a minute)');
  await addSiw(kernel, build, join(root, 'lib/modules'));
  await tool('depmod', ['-b', root, kernel.version]);
  const init = guestFile('init.sh');
  const { initramfs } = benchIn(partial);
  await buildInitramfs({
    root,
    version: kernel.version,
    busybox: join(root, 'bin/busybox'),
    init,
    output: initramfs,
  });
  await rename(join(root, 'boot', `vmlinuz-${kernel.version}`), join(partial, 'vmlinuz'));
  await rename(join(root, 'lib'), join(partial, 'lib'));
  for (const folder of [root, build]) await rm(folder, { recursive: true });
  await writeFile(join(partial, 'recipe'), await recipe());
  await rm(final, { recursive: true, force: true });
  await rename(partial, final);
  say(`ready: ${final}`);
  return benchIn(final);
}

/**
 * The bench's kernel, built if the cache has none. Two runs share one set-up; an interrupted one starts over.
 *
 * @throws BenchError (exit code 69) with what is missing on this machine
 */
export async function ensureBench(say: (text: string) => void): Promise<Bench> {
  const cache = cacheFolder();
  await mkdir(cache, { recursive: true });
  return withLock(join(cache, 'lock'), async () => {
    await ensurePackages(say);
    const ready = await findReady(cache);
    if (ready !== undefined) return ready;
    await removePartials(cache);
    return make(cache, say);
  });
}
