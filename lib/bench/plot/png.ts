/**
 * SVG to PNG: resvg as WebAssembly, and a font, both of them in optional packages that are loaded only here. Nothing is downloaded, and it looks
 * the same on a server without fonts.
 */
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { MigrationError } from '../../errors.ts';

const FONTS = [400, 700].map(
  (weight) => `@fontsource/dejavu-sans/files/dejavu-sans-latin-${weight}-normal.woff2`,
);
/** Pixels for each of the picture's units. */
const ZOOM = 2;

/** What is used of @resvg/resvg-wasm. Its own types are there only if it is installed, and this compiles without it. */
interface Resvg {
  initWasm(wasm: Promise<Uint8Array>): Promise<void>;
  readonly Resvg: new (svg: string, options: object) => { render(): { asPng(): Uint8Array }; free(): void };
}
const RESVG: string = '@resvg/resvg-wasm';

let loading: Promise<Resvg> | undefined;

/**
 * Draws an SVG picture, at twice its size.
 * @throws MigrationError PROVIDER_UNAVAILABLE (an optional package is not installed)
 */
export async function svgToPng(svg: string): Promise<Uint8Array> {
  const { Resvg } = await loadPng();
  const fontBuffers = await Promise.all(FONTS.map((font) => readFile(pathOf(font))));
  const font = { fontBuffers, defaultFontFamily: 'DejaVu Sans', sansSerifFamily: 'DejaVu Sans' };
  const picture = new Resvg(svg, { font, fitTo: { mode: 'zoom', value: ZOOM } });
  try {
    const image = picture.render();
    return image.asPng();
  } finally {
    picture.free();
  }
}

/** Loads what {@link svgToPng} needs: who measures for an hour wants to know before. */
export async function loadPng(): Promise<Resvg> {
  loading ??= load();
  return loading;
}

async function load(): Promise<Resvg> {
  try {
    const resvg = (await import(RESVG)) as Resvg;
    for (const font of FONTS) pathOf(font);
    await resvg.initWasm(readFile(pathOf('@resvg/resvg-wasm/index_bg.wasm')));
    return resvg;
  } catch (cause) {
    throw new MigrationError(
      'PROVIDER_UNAVAILABLE',
      'configure',
      'PNG needs the packages @resvg/resvg-wasm and @fontsource/dejavu-sans, which are not installed: npm install them, or let the plot be an .svg',
      { cause },
    );
  }
}

function pathOf(file: string): string {
  return createRequire(import.meta.url).resolve(file);
}
