/** What the canvas of the page's map shows, read from its pixels. */
import type { Page } from 'playwright-core';

export type Kind = 'done' | 'zero' | 'flying' | 'dirty' | 'waiting';
type Shares = Partial<Record<Kind, number>>;

/** Of the browser, where `count` runs. */
interface Canvas {
  readonly width: number;
  readonly height: number;
  getContext(kind: '2d'): {
    getImageData(x: number, y: number, width: number, height: number): { readonly data: Uint8ClampedArray };
  };
}
interface Browser {
  readonly document: { readonly documentElement: unknown };
  getComputedStyle(element: unknown): { getPropertyValue(name: string): string };
}

function count(element: unknown): Shares {
  const canvas = element as Canvas;
  const { document, getComputedStyle } = globalThis as unknown as Browser;
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const style = getComputedStyle(document.documentElement);
  const kinds = new Map<string, Kind>();
  for (const kind of ['done', 'zero', 'flying', 'dirty', 'waiting'] as const) {
    const hex = style.getPropertyValue(`--map-${kind}`).trim().slice(1);
    kinds.set([0, 2, 4].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)).join(), kind);
  }
  const shares: Shares = {};
  let all = 0;
  for (let at = 0; at < data.length; at += 4) {
    const kind = kinds.get([data[at], data[at + 1], data[at + 2]].join());
    if (kind === undefined) continue;
    shares[kind] = (shares[kind] ?? 0) + 1;
    all += 1;
  }
  for (const kind of kinds.values()) if (shares[kind] !== undefined) shares[kind] /= all;
  return shares;
}

/** Which share of the map's pixels has the colour of each kind, without what lies between the cells. */
export const painted = (page: Page): Promise<Shares> => page.locator('.map canvas').first().evaluate(count);
