import type { Look } from './style.ts';
import { element, line } from './svg.ts';

const RADIUS = 4;
const CAP = 4;

/** A point of a series. */
export function marker(x: number, y: number, { colour, shape }: Look): string {
  const fill = { fill: colour };
  const r = RADIUS;
  switch (shape % 5) {
    case 0:
      return element('circle', { cx: x, cy: y, r, ...fill });
    case 1:
      return element('rect', { x: x - r, y: y - r, width: 2 * r, height: 2 * r, ...fill });
    case 2:
      return polygon([x, y - r - 1, x + r + 1, y + r, x - r - 1, y + r], colour);
    case 3:
      return polygon([x, y - r - 1, x + r + 1, y, x, y + r + 1, x - r - 1, y], colour);
    default:
      return polygon([x, y + r + 1, x + r + 1, y - r, x - r - 1, y - r], colour);
  }
}

function polygon(points: readonly number[], fill: string): string {
  return element('polygon', { points: points.map((value) => value.toFixed(2)).join(' '), fill });
}

/** From the least to the most of a figure, upright at x. */
export function uprightSpread(x: number, low: number, high: number, colour: string): string {
  const stroke = { stroke: colour, 'stroke-width': 1.3 };
  return (
    line(x, low, x, high, stroke) +
    line(x - CAP, low, x + CAP, low, stroke) +
    line(x - CAP, high, x + CAP, high, stroke)
  );
}

/** The same, lying at y. */
export function lyingSpread(y: number, low: number, high: number, colour: string): string {
  const stroke = { stroke: colour, 'stroke-width': 1.3 };
  return (
    line(low, y, high, y, stroke) +
    line(low, y - CAP, low, y + CAP, stroke) +
    line(high, y - CAP, high, y + CAP, stroke)
  );
}
