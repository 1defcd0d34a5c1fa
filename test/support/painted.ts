/** What the canvas of the page's map shows, read from its pixels. */
import type { Page } from 'playwright-core';

/** Runs in the page, where there are types of other things. */
const COUNT = `(canvas) => {
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  const style = getComputedStyle(document.documentElement);
  const kinds = new Map();
  for (const kind of ['done', 'zero', 'flying', 'dirty', 'waiting']) {
    const hex = style.getPropertyValue('--map-' + kind).trim().slice(1);
    kinds.set([0, 2, 4].map((at) => Number.parseInt(hex.slice(at, at + 2), 16)).join(), kind);
  }
  const counts = {};
  let all = 0;
  for (let at = 0; at < data.length; at += 4) {
    const kind = kinds.get([data[at], data[at + 1], data[at + 2]].join());
    if (kind === undefined) continue;
    counts[kind] = (counts[kind] ?? 0) + 1;
    all += 1;
  }
  return Object.fromEntries(Object.entries(counts).map(([kind, count]) => [kind, count / all]));
}`;

export type Kind = 'done' | 'zero' | 'flying' | 'dirty' | 'waiting';

/** Which share of the map's pixels has the colour of each kind, without what lies between the cells. */
export const painted = (page: Page): Promise<Partial<Record<Kind, number>>> =>
  page.locator('.map canvas').first().evaluate(COUNT);
