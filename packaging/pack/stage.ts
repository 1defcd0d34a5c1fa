/** The package as users get it, in a folder: what `files` of package.json chooses, and a package.json without what only a checkout has. */
import { cp, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { output } from '../support/run.ts';

interface Packed {
  readonly filename: string;
  readonly files: readonly { readonly path: string }[];
}

/** `npm pack` in a folder; with nowhere to put it, only its list of files. */
export async function npmPack(folder: string, destination?: string): Promise<Packed> {
  const where = destination === undefined ? ['--dry-run'] : ['--pack-destination', destination];
  const text = await output('npm', ['pack', '--ignore-scripts', '--json', ...where], { cwd: folder });
  const [packed] = JSON.parse(text) as [Packed];
  return packed;
}

/** A user has neither the tools that scripts call nor what they work on. */
export function publishedManifest(text: string): string {
  const { scripts, devDependencies, ...published } = JSON.parse(text) as Record<string, unknown>;
  return `${JSON.stringify(published, null, 2)}\n`;
}

/** @throws Error naming what has not been built, of `needed`: folders of the checkout */
export async function stage(checkout: string, folder: string, needed: readonly string[]): Promise<void> {
  const { files } = await npmPack(checkout);
  for (const path of needed) {
    if (!files.some((file) => file.path.startsWith(`${path}/`)))
      throw new Error(`${path} has not been built`);
  }
  await rm(folder, { recursive: true, force: true });
  for (const { path } of files) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await cp(join(checkout, path), join(folder, path));
  }
  const manifest = await readFile(join(checkout, 'package.json'), 'utf8');
  await writeFile(join(folder, 'package.json'), publishedManifest(manifest));
}
