/** The map of RAM on a canvas: one small square for each cell, filled from below with what is known of its pages. */

import { bytes } from './format.js';

/** What a message begins with; lib/web/map-feed.ts. */
const MAP = 1;
const WHOLE = 0;
const CHANGES = 1;
const HEADER_BYTES = 8;
const IN_FLIGHT = 1 << 8;
const AGAIN = 1 << 9;
/** Shares of a cell's pages are told in so many steps. */
const ALL = 15;

const MOST_HEIGHT = 260;
const LEAST_PITCH = 3;
const MOST_PITCH = 14;

/** Whose map a binary message is, or undefined if it is none. */
export const mapId = (data) => {
  const view = new DataView(data);
  return data.byteLength >= HEADER_BYTES && view.getUint8(0) === MAP ? view.getUint32(4, true) : undefined;
};

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/** Shares of a cell, together 1. What is on its way is of what has been given to the network. */
function sharesOf(cell) {
  const waiting = cell & ALL;
  const zero = (cell >> 4) & ALL;
  const rest = ALL - waiting - zero;
  const flying = (cell & IN_FLIGHT) !== 0;
  return {
    done: flying ? 0 : rest / ALL,
    flying: flying ? rest / ALL : 0,
    zero: zero / ALL,
    dirty: (cell & AGAIN) !== 0 ? waiting / ALL : 0,
    waiting: (cell & AGAIN) !== 0 ? 0 : waiting / ALL,
  };
}

const ORDER = ['done', 'zero', 'flying', 'dirty', 'waiting'];

export class RamMapView {
  #section;
  #canvas;
  #readout;
  #layout;
  #cells = new Uint16Array();
  #words;
  #pitch = MOST_PITCH;
  #columns = 1;
  #drawing = false;
  #resized = new ResizeObserver(() => this.#draw());
  #gone = new AbortController();

  constructor(section) {
    this.#section = section;
    this.#canvas = section.querySelector('canvas');
    this.#readout = section.querySelector('[data-field=cell]');
    this.#resized.observe(section);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#draw(), {
      signal: this.#gone.signal,
    });
    this.#canvas.addEventListener('pointermove', (event) => this.#point(event));
    this.#canvas.addEventListener('pointerleave', () => this.#readout.replaceChildren());
  }

  /** Nothing refers to it any more. */
  destroy() {
    this.#gone.abort();
    this.#resized.disconnect();
  }

  /** `role`: of this end, which decides what the kinds mean. */
  name(role) {
    if (this.#words) return;
    this.#words = role === 'source' ? SENT : ARRIVED;
    for (const item of this.#section.querySelectorAll('[data-kind]')) {
      const word = this.#words[item.dataset.kind];
      item.hidden = word === undefined;
      if (word) item.querySelector('span').textContent = word;
    }
  }

  layOut(layout) {
    this.#layout = layout;
    this.#section.hidden = layout.cells === 0;
  }

  /** A binary message. */
  take(data) {
    const view = new DataView(data);
    const kind = view.getUint8(1);
    if (kind === WHOLE) this.#cells = new Uint16Array(data.slice(HEADER_BYTES));
    if (kind === CHANGES) this.#change(view);
    this.#draw();
  }

  #change(view) {
    for (let at = HEADER_BYTES; at + 8 <= view.byteLength; ) {
      const first = view.getUint32(at, true);
      const count = view.getUint32(at + 4, true);
      at += 8;
      for (let cell = 0; cell < count; cell++, at += 2) this.#cells[first + cell] = view.getUint16(at, true);
    }
  }

  /** Once for a frame, however much has come. */
  #draw() {
    if (this.#drawing || this.#cells.length === 0) return;
    this.#drawing = true;
    requestAnimationFrame(() => {
      this.#drawing = false;
      this.#paint();
    });
  }

  #paint() {
    const width = this.#section.clientWidth;
    const count = this.#cells.length;
    const ideal = Math.floor(Math.sqrt((width * MOST_HEIGHT) / count));
    this.#pitch = Math.min(MOST_PITCH, Math.max(LEAST_PITCH, ideal));
    this.#columns = Math.max(1, Math.floor(width / this.#pitch));
    const height = Math.ceil(count / this.#columns) * this.#pitch;
    const scale = window.devicePixelRatio || 1;
    this.#canvas.width = Math.round(width * scale);
    this.#canvas.height = Math.round(height * scale);
    this.#canvas.style.height = `${height}px`;
    const context = this.#canvas.getContext('2d');
    context.scale(scale, scale);
    this.#fill(context);
  }

  #fill(context) {
    const colours = Object.fromEntries(ORDER.map((kind) => [kind, colour(`--map-${kind}`)]));
    const sums = Object.fromEntries(ORDER.map((kind) => [kind, 0]));
    const size = this.#pitch - 1;
    for (const [at, cell] of this.#cells.entries()) {
      const x = (at % this.#columns) * this.#pitch;
      let bottom = Math.floor(at / this.#columns) * this.#pitch + size;
      const shares = sharesOf(cell);
      for (const kind of ORDER) {
        sums[kind] += shares[kind];
        const high = shares[kind] * size;
        if (high === 0) continue;
        context.fillStyle = colours[kind];
        context.fillRect(x, bottom - high, size, high);
        bottom -= high;
      }
    }
    this.#tell(sums);
  }

  /** The figures beside the colours, and the same for who does not see them. */
  #tell(sums) {
    const parts = [];
    for (const item of this.#section.querySelectorAll('[data-kind]')) {
      const share = `${((100 * sums[item.dataset.kind]) / this.#cells.length).toFixed(0)} %`;
      item.querySelector('b').textContent = share;
      if (!item.hidden) parts.push(`${this.#words?.[item.dataset.kind]} ${share}`);
    }
    this.#canvas.setAttribute('aria-label', `map of RAM: ${parts.join(', ')}`);
  }

  #point({ offsetX, offsetY }) {
    const at = Math.floor(offsetY / this.#pitch) * this.#columns + Math.floor(offsetX / this.#pitch);
    const place = placeOf(this.#layout, at);
    if (!place || this.#cells[at] === undefined) return this.#readout.replaceChildren();
    const shares = sharesOf(this.#cells[at]);
    const what = ORDER.filter((kind) => shares[kind] > 0)
      .map((kind) => `${this.#words?.[kind] ?? kind} ${Math.round(100 * shares[kind])} %`)
      .join(', ');
    this.#readout.textContent = `${place}: ${what}`;
  }
}

const SENT = {
  done: 'sent',
  zero: 'zeros',
  flying: 'in flight',
  dirty: 'written again',
  waiting: 'not sent yet',
};
/** A destination does not see more. */
const ARRIVED = { done: 'has come', waiting: 'nothing came: zeros, or still to come' };

function placeOf(layout, at) {
  let first = 0;
  for (const block of layout?.blocks ?? []) {
    if (at < first + block.cells) {
      const from = (at - first) * layout.cellBytes;
      return `${block.name}, ${bytes(from)} to ${bytes(Math.min(block.bytes, from + layout.cellBytes))}`;
    }
    first += block.cells;
  }
  return undefined;
}
