/**
 * The map of one migration as it is told to viewers: whole to whoever is new or was left behind, then what has changed. It is read and packed
 * once for all of them, and only while somebody looks.
 *
 * A binary message, little endian: u8 1, u8 kind (0 whole, 1 changes), u16 0, u32 the migration's id, then for whole u16 for each cell, and for
 * changes runs of u32 the first cell, u32 how many, u16 for each. A cell's bits: lib/ram/ram-map.ts.
 */
import { toJson } from '../json.ts';
import type { RamMap } from '../ram/ram-map.ts';

const MAP = 1;
const WHOLE = 0;
const CHANGES = 1;
const HEADER_BYTES = 8;
/** As many bytes as a run costs: cells in between may as well be told again. */
const BRIDGED_CELLS = 4;

export class MapFeed {
  readonly #id: number;
  readonly #map: RamMap;
  #cells: Uint16Array = new Uint16Array();
  #turn = 0;
  #whole: Buffer | undefined;
  #changes: Buffer | undefined;

  constructor(id: number, map: RamMap) {
    this.#id = id;
    this.#map = map;
  }

  /** Looks at it again. */
  refresh(): void {
    const before = this.#cells;
    const now = this.#map.read();
    if (now.length === before.length && now.every((cell, at) => cell === before[at])) return;
    this.#turn += 1;
    this.#cells = now;
    this.#whole = undefined;
    this.#changes = now.length === before.length ? packChanges(this.#id, before, now) : undefined;
  }

  /** What a viewer needs that has been told everything up to a turn; 0: nothing. The turn that it is at then. */
  since(turn: number): { readonly turn: number; readonly messages: readonly (string | Buffer)[] } {
    if (turn === this.#turn) return { turn, messages: [] };
    if (turn > 0 && turn === this.#turn - 1 && this.#changes)
      return { turn: this.#turn, messages: [this.#changes] };
    this.#whole ??= packWhole(this.#id, this.#cells);
    const layout = toJson({ type: 'map', id: this.#id, ...this.#map.layout });
    return { turn: this.#turn, messages: [layout, this.#whole] };
  }
}

function header(id: number, kind: number): Buffer {
  const bytes = Buffer.alloc(HEADER_BYTES);
  bytes.writeUInt8(MAP, 0);
  bytes.writeUInt8(kind, 1);
  bytes.writeUInt32LE(id, 4);
  return bytes;
}

function packWhole(id: number, cells: Uint16Array): Buffer {
  return Buffer.concat([header(id, WHOLE), packCells(cells)]);
}

function packCells(cells: Uint16Array): Buffer {
  const bytes = Buffer.allocUnsafe(2 * cells.length);
  for (const [at, cell] of cells.entries()) bytes.writeUInt16LE(cell, 2 * at);
  return bytes;
}

function packChanges(id: number, before: Uint16Array, now: Uint16Array): Buffer {
  const parts = [header(id, CHANGES)];
  for (let at = 0; at < now.length; at++) {
    if (now[at] === before[at]) continue;
    const first = at;
    let end = at + 1;
    for (at = end; at < now.length && at < end + BRIDGED_CELLS; at++)
      if (now[at] !== before[at]) end = at + 1;
    const run = Buffer.alloc(8);
    run.writeUInt32LE(first, 0);
    run.writeUInt32LE(end - first, 4);
    parts.push(run, packCells(now.subarray(first, end)));
    at = end - 1;
  }
  return Buffer.concat(parts);
}
