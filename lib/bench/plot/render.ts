import { drawBars } from './bars.ts';
import { drawLines } from './lines.ts';
import { marker } from './marker.ts';
import type { PlotPanel, Plots } from './plots.ts';
import { FONT, INK, type Look, looksOf, SIZE, WIDTH } from './style.ts';
import { element, line, text, textWidth } from './svg.ts';

const MARGIN = 24;
const HEAD = 38;
const BETWEEN_PANELS = 26;
const LEGEND_LINE = 20;
const LEGEND_KEY = 34;
const NOTE = 'Points and bars are medians of the rounds, the thin lines with caps their least and most.';

/** The picture as one SVG document. It names no font that must be there, and loads nothing. */
export function renderPlots(plots: Plots): string {
  const parts: string[] = [text(plots.title, MARGIN, HEAD, heading(SIZE.title))];
  let y = HEAD;
  const soft = { 'font-size': SIZE.subtitle, fill: INK.soft };
  for (const words of [...wrapped(plots.subtitle ?? ''), NOTE]) {
    y += 18;
    parts.push(text(words, MARGIN, y, soft));
  }
  for (const panel of plots.panels) {
    const drawn = drawPanel(panel, y + BETWEEN_PANELS);
    parts.push(drawn.markup);
    y += BETWEEN_PANELS + drawn.height;
  }
  return document(parts.join('\n'), plots.title, Math.ceil(y + MARGIN / 2));
}

function document(content: string, title: string, height: number): string {
  const attributes = {
    xmlns: 'http://www.w3.org/2000/svg',
    width: WIDTH,
    height,
    viewBox: `0 0 ${WIDTH} ${height}`,
    'font-family': FONT,
    role: 'img',
    'aria-label': title,
  };
  const paper = element('rect', { width: WIDTH, height, fill: '#ffffff' });
  return `${element('svg', attributes, `\n${paper}\n${content}\n`)}\n`;
}

function drawPanel(panel: PlotPanel, top: number): { markup: string; height: number } {
  const title = text(panel.title, MARGIN, top + 12, heading(SIZE.panel));
  const legend = drawLegend(panel, top + 34);
  const body = panel.kind === 'bars' ? drawBars : drawLines;
  const below = top + 28 + legend.height;
  const drawn = body(panel, below);
  return {
    markup: element('g', {}, title + legend.markup + drawn.markup),
    height: below - top + drawn.height,
  };
}

/** In lines, as many names in each as fit. One series of bars needs none: its rows say it. */
function drawLegend({ series, kind }: PlotPanel, top: number): { markup: string; height: number } {
  if (series.length < 2) return { markup: '', height: 4 };
  const looks = looksOf(series);
  const parts: string[] = [];
  let [x, y] = [MARGIN, top];
  for (const [index, { name }] of series.entries()) {
    const width = LEGEND_KEY + textWidth(name, SIZE.tick) + 22;
    if (x + width > WIDTH - MARGIN && x > MARGIN) [x, y] = [MARGIN, y + LEGEND_LINE];
    const look = looks[index] as Look;
    parts.push(kind === 'bars' ? barKey(x, y - 10, look) : legendKey(x, y - 4, look));
    parts.push(text(name, x + LEGEND_KEY, y, { 'font-size': SIZE.tick, fill: INK.text }));
    x += width;
  }
  return { markup: parts.join(''), height: y - top + LEGEND_LINE };
}

function legendKey(x: number, y: number, look: Look): string {
  const stroke = { stroke: look.colour, 'stroke-width': 2, 'stroke-dasharray': look.dash };
  return line(x, y, x + LEGEND_KEY - 8, y, stroke) + marker(x + (LEGEND_KEY - 8) / 2, y, look);
}

function barKey(x: number, y: number, { colour }: Look): string {
  const size = { width: LEGEND_KEY - 8, height: 12 };
  return element('rect', { x, y, ...size, fill: colour, 'fill-opacity': 0.75 });
}

function heading(size: number): Record<string, string | number> {
  return { 'font-size': size, 'font-weight': 'bold', fill: INK.text };
}

/** Words in lines that fit. */
function wrapped(words: string): readonly string[] {
  const lines: string[] = [];
  for (const word of words.split(' ').filter((part) => part !== '')) {
    const longer = lines.length === 0 ? word : `${lines.at(-1)} ${word}`;
    if (lines.length > 0 && textWidth(longer, SIZE.subtitle) <= WIDTH - 2 * MARGIN)
      lines[lines.length - 1] = longer;
    else lines.push(word);
  }
  return lines;
}
