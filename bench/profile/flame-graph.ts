/** Draws a tree of stacks as a flame graph. Pure. */
import { element, escapeXml, text } from '../../lib/bench/plot/svg.ts';
import type { Frame } from './stacks.ts';

const WIDTH = 1200;
const ROW = 18;
const MARGIN = 10;
const HEAD = 62;
/** Narrower boxes are not drawn, and those too narrow for some letters stay without. */
const LEAST_WIDTH = 0.6;
const LETTER = 6.6;
const LEAST_LETTERS = 4;

/** The kernel's functions and ours are told apart by colour, as far as names tell. */
const COLOURS = { ours: '#f2a65a', kernel: '#8fb8de', other: '#d9d9d9' } as const;

export interface FlameGraph {
  readonly title: string;
  readonly subtitle: string;
  readonly root: Frame;
}

export function flameGraph({ title, subtitle, root }: FlameGraph): string {
  const height = HEAD + ROW * depthOf(root) + MARGIN;
  const boxes: string[] = [];
  draw(root, { x: MARGIN, width: WIDTH - 2 * MARGIN, y: height - MARGIN - ROW }, root.samples, boxes);
  const words = [
    text(title, MARGIN, 24, { 'font-size': 18, 'font-weight': 'bold', fill: '#222222' }),
    text(subtitle, MARGIN, 42, { 'font-size': 12, fill: '#555555' }),
  ];
  const attributes = `xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}"`;
  const background = element('rect', { x: 0, y: 0, width: WIDTH, height, fill: '#ffffff' });
  return `<svg ${attributes} font-family="DejaVu Sans Mono, monospace"><title>${escapeXml(title)}</title>${[background, ...words, ...boxes].join('\n')}</svg>\n`;
}

const isDrawn = (frame: Frame, all: number): boolean =>
  (frame.samples / all) * (WIDTH - 2 * MARGIN) >= LEAST_WIDTH;

function depthOf(root: Frame, all = root.samples): number {
  return (
    1 +
    Math.max(
      0,
      ...root.callees.filter((callee) => isDrawn(callee, all)).map((callee) => depthOf(callee, all)),
    )
  );
}

interface Place {
  readonly x: number;
  readonly width: number;
  readonly y: number;
}

function draw(frame: Frame, { x, width, y }: Place, all: number, boxes: string[]): void {
  const share = ((100 * frame.samples) / all).toFixed(1);
  const letters = Math.floor((width - 4) / LETTER);
  const label = letters < LEAST_LETTERS ? '' : shortened(frame.name, letters);
  const box = element('rect', { x, y, width, height: ROW - 1, rx: 1, fill: COLOURS[kindOf(frame.name)] });
  const name = label === '' ? '' : text(label, x + 3, y + 13, { 'font-size': 11, fill: '#111111' });
  boxes.push(`<g><title>${escapeXml(frame.name)}: ${share} %</title>${box}${name}</g>`);
  let at = x;
  for (const callee of frame.callees) {
    const part = (width * callee.samples) / frame.samples;
    if (isDrawn(callee, all)) draw(callee, { x: at, width: part, y: y - ROW }, all, boxes);
    at += part;
  }
}

const shortened = (name: string, letters: number): string =>
  name.length <= letters ? name : `${name.slice(0, letters - 2)}..`;

function kindOf(name: string): keyof typeof COLOURS {
  if (/^(rdma_migrate|napi|Napi)/.test(name)) return 'ours';
  return /^(\[unknown\]|all|source|destination)$/.test(name) || /::|^_?[A-Z]/.test(name) ? 'other' : 'kernel';
}
