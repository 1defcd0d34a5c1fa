/** The files of the page: few, small, read once, and known by name. Nothing that a request says becomes a path. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface Asset {
  readonly type: string;
  readonly body: Buffer;
}

const HTML = 'text/html; charset=utf-8';
const CSS = 'text/css; charset=utf-8';
const SCRIPT = 'text/javascript; charset=utf-8';
const ICON = 'image/svg+xml';

const OWN: readonly (readonly [file: string, type: string])[] = [
  ['index.html', HTML],
  ['style.css', CSS],
  ['page.js', SCRIPT],
  ['view.js', SCRIPT],
  ['charts.js', SCRIPT],
  ['map.js', SCRIPT],
  ['format.js', SCRIPT],
  ['icon.svg', ICON],
];
const CHARTS: readonly (readonly [file: string, type: string])[] = [
  ['uPlot.esm.js', SCRIPT],
  ['uPlot.min.css', CSS],
];

/** By the path that a request names. */
export async function loadAssets(): Promise<ReadonlyMap<string, Asset>> {
  const uplot = dirname(createRequire(import.meta.url).resolve('uplot/dist/uPlot.min.css'));
  const page = pageFolder();
  const read = async (folder: string, [file, type]: readonly [string, string]) =>
    [`/${file}`, { type, body: await readFile(join(folder, file)) }] as const;
  const files = new Map<string, Asset>(
    await Promise.all([...OWN.map((file) => read(page, file)), ...CHARTS.map((file) => read(uplot, file))]),
  );
  const index = files.get('/index.html');
  if (index) files.set('/', index);
  return files;
}

/** `web/` of the package, wherever under it the modules were compiled to: nothing above the package is looked at. */
function pageFolder(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json')) && dirname(folder) !== folder) folder = dirname(folder);
  return join(folder, 'web');
}
