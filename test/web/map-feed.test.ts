/** Whoever is told whole maps and changes, in any order of missing some, has the map. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { layOutCells, RamMap, shareBits } from '../../lib/ram/ram-map.ts';
import { MapFeed } from '../../lib/web/map-feed.ts';

/** As the page reads it, written apart from it. */
function apply(cells: number[], message: Buffer): number[] {
  expect([message.readUInt8(0), message.readUInt16LE(2), message.readUInt32LE(4)]).toEqual([1, 0, 7]);
  if (message.readUInt8(1) === 0)
    return Array.from({ length: (message.length - 8) / 2 }, (_, at) => message.readUInt16LE(8 + 2 * at));
  const changed = [...cells];
  let at = 8;
  while (at < message.length) {
    const [first, count] = [message.readUInt32LE(at), message.readUInt32LE(at + 4)];
    at += 8;
    for (let cell = 0; cell < count; cell++, at += 2) changed[first + cell] = message.readUInt16LE(at);
  }
  expect(at).toBe(message.length);
  return changed;
}

describe('a map that is told', () => {
  it('is the map, whatever a viewer has missed', () => {
    const steps = fc.array(
      fc.record({
        changes: fc.array(fc.tuple(fc.nat(199), fc.nat(0xffff)), { maxLength: 12 }),
        looks: fc.boolean(),
      }),
    );
    const seen = { whole: 0, changes: 0 };
    fc.assert(
      fc.property(steps, (all) => {
        const cells = new Uint16Array(200);
        const map = new RamMap();
        map.open({
          layout: layOutCells([{ name: 'ram', length: 200n, pageSize: 1 }]),
          cells: () => cells.slice(),
        });
        const feed = new MapFeed(7, map);
        let turn = 0;
        let mine: number[] = [];
        for (const { changes, looks } of all) {
          for (const [at, value] of changes) cells[at] = value;
          feed.refresh();
          if (!looks) continue;
          const told = feed.since(turn);
          turn = told.turn;
          for (const message of told.messages) {
            if (typeof message === 'string')
              expect(JSON.parse(message)).toMatchObject({ type: 'map', cells: 200 });
            else {
              seen[message.readUInt8(1) === 0 ? 'whole' : 'changes'] += 1;
              mine = apply(mine, message);
            }
          }
          expect(mine).toEqual([...cells]);
        }
      }),
    );
    expect(Math.min(seen.whole, seen.changes)).toBeGreaterThan(10);
  });

  it('costs a still map nothing, and a changed cell some bytes', () => {
    const cells = new Uint16Array(4096);
    const map = new RamMap();
    const feed = new MapFeed(7, map);
    feed.refresh();
    expect(feed.since(0).messages).toEqual([]);
    map.open({
      layout: layOutCells([{ name: 'ram', length: 4096n, pageSize: 1 }]),
      cells: () => cells.slice(),
    });
    feed.refresh();
    const { turn } = feed.since(0);
    feed.refresh();
    expect(feed.since(turn).messages).toEqual([]);
    cells[4095] = 15;
    feed.refresh();
    expect(feed.since(turn).messages).toEqual([
      Buffer.from('010100000700 0000ff0f00000100 00000f00'.replaceAll(' ', ''), 'hex'),
    ]);
  });

  it('stays as it was when the migration has ended', () => {
    const map = new RamMap();
    let read = 0;
    const cells = (): Uint16Array => Uint16Array.of(++read);
    map.open({ layout: layOutCells([{ name: 'ram', length: 1n, pageSize: 1 }]), cells });
    map.close();
    expect([...map.read(), ...map.read()]).toEqual([1, 1]);
  });
});

describe('cells', () => {
  it.each([
    ['a page', [4096n]],
    ['a tebibyte and small blocks', [1n << 40n, 64n << 10n, 4096n]],
    ['16 TiB in two', [1n << 43n, 1n << 43n]],
    ['a thousand blocks', Array.from({ length: 1000 }, () => 1n << 30n)],
  ])('of %s are few, equal, and none is of two blocks', (_what, lengths) => {
    const blocks = lengths.map((length, at) => ({ name: `b${at}`, length, pageSize: 4096 }));
    const layout = layOutCells(blocks);
    expect(layout.cells).toBeLessThanOrEqual(4096 + blocks.length);
    expect(Math.log2(layout.cellBytes / 4096) % 1).toBe(0);
    for (const [at, { bytes, cells }] of layout.blocks.entries()) {
      expect(bytes).toBe(Number(lengths[at]));
      expect(cells).toBe(Math.ceil(bytes / layout.cellBytes));
    }
  });

  it('are of whole pages of any size', () => {
    const huge = { name: 'huge', length: 1n << 31n, pageSize: 1 << 30 };
    expect(layOutCells([huge, { name: 'rom', length: 4096n, pageSize: 4096 }]).cellBytes).toBe(1 << 30);
  });

  it('say none of no page alone, and all of all', () => {
    const bits = Array.from({ length: 256 }, (_, share) => shareBits(share));
    expect([bits[0], bits[1], bits[254], bits[255]]).toEqual([0, 1, 14, 15]);
    expect(bits).toEqual(bits.toSorted((one, other) => one - other));
  });
});
