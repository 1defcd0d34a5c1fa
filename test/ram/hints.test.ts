import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { NativeBitmap } from '../../lib/native/memory.ts';
import { HintBook, type HintKind } from '../../lib/ram/hint-book.ts';
import type { RamBlock } from '../../lib/ram/vm.ts';

const PAGE = 4096n;
const PAGES = 64;
const invalid = expect.objectContaining({ code: 'INVALID_ARGUMENT' });

class Bits implements NativeBitmap {
  readonly bits = new Set<number>();
  readonly pages = PAGES;
  setRange(first: number, count: number): void {
    for (let page = first; page < first + count; page++) this.bits.add(page);
  }
  clearRange(first: number, count: number): void {
    for (let page = first; page < first + count; page++) this.bits.delete(page);
  }
  count(): number {
    return this.bits.size;
  }
  shares(): Uint8Array {
    return new Uint8Array();
  }
}

function attached(hints = new HintBook()) {
  const bitmap = new Bits();
  bitmap.setRange(0, PAGES);
  const block = {
    name: 'ram',
    length: BigInt(PAGES) * PAGE,
    mapping: { pageSize: Number(PAGE) },
  } as RamBlock;
  hints.attach([{ block, bitmap }], false);
  return { hints, bitmap, block };
}

const pages = (first: number, count: number) => ({
  offset: BigInt(first) * PAGE,
  length: BigInt(count) * PAGE,
});

describe('a free range', () => {
  it('is not to be sent, in its whole pages, and the destination is to clear it once', () => {
    const { hints, bitmap } = attached();
    hints.hint('ram', { offset: PAGE + 1n, length: 3n * PAGE }, 'free');
    expect(bitmap.count()).toBe(PAGES - 2);
    expect(hints.takeFreed('ram')).toEqual([pages(2, 2)]);
    expect(hints.takeFreed('ram')).toEqual([]);
  });

  it('that was given before counts when the migration begins', () => {
    const hints = new HintBook();
    hints.hint('ram', pages(8, 4), 'free');
    const { bitmap } = attached(hints);
    expect(bitmap.count()).toBe(PAGES - 4);
    expect(hints.takeFreed('ram')).toEqual([pages(8, 4)]);
  });

  it('that is written again is sent, after the message that clears it', () => {
    const { hints, bitmap } = attached();
    hints.hint('ram', pages(0, 8), 'free');
    bitmap.setRange(3, 1); // the tracker
    expect(hints.takeFreed('ram')).toEqual([pages(0, 8)]);
    expect(bitmap.bits.has(3)).toBe(true);
  });

  it.each(['normal', 'hot', 'cold'] as const)(
    'that is taken back as %s is sent, and not cleared any more',
    (kind) => {
      const { hints, bitmap } = attached();
      hints.hint('ram', pages(0, 8), 'free');
      hints.hint('ram', pages(2, 2), kind);
      expect([...bitmap.bits].filter((page) => page < 8)).toEqual([2, 3]);
      expect(hints.takeFreed('ram')).toEqual([pages(0, 2), pages(4, 4)]);
    },
  );

  it('is forgotten by no page: whatever is said, a page is sent, cleared, or was never anything but free', () => {
    const act = fc.record({
      kind: fc.constantFrom<HintKind>('free', 'normal', 'hot', 'cold'),
      from: fc.nat({ max: PAGES * 4096 - 1 }),
      length: fc.integer({ min: 1, max: 20 * 4096 }),
    });
    fc.assert(
      fc.property(fc.array(act, { maxLength: 40 }), fc.integer({ min: 1, max: 12 }), (acts, maxRanges) => {
        const { hints, bitmap, block } = attached(new HintBook({ maxRanges }));
        const free = new Array<boolean>(PAGES).fill(false);
        for (const { kind, from, length } of acts) {
          const end = Math.min(from + length, PAGES * 4096);
          try {
            hints.hint('ram', { offset: BigInt(from), length: BigInt(end - from) }, kind);
          } catch (error) {
            expect(error).toEqual(invalid);
            expect(kind).not.toBe('normal');
            continue;
          }
          // Pages that the range touches are not free any more; those within it are.
          if (kind === 'free')
            free.fill(true, Math.ceil(from / 4096), Math.max(Math.ceil(from / 4096), Math.floor(end / 4096)));
          else free.fill(false, Math.floor(from / 4096), Math.ceil(end / 4096));
        }
        const cleared = new Bits();
        for (const { offset, length } of hints.takeFreed('ram'))
          cleared.setRange(Number(offset / PAGE), Number(length / PAGE));
        for (let page = 0; page < PAGES; page++) {
          if (!free[page]) expect(bitmap.bits.has(page), `page ${page}`).toBe(true);
          expect(bitmap.bits.has(page)).not.toBe(cleared.bits.has(page));
        }
        const parts = (['cold', 'normal', 'hot'] as const).flatMap((heat) => hints.spans(block, heat));
        expect(parts.reduce((sum, { length }) => sum + length, 0n)).toBe(block.length);
        expect(hints.ranges).toBeLessThanOrEqual(maxRanges + PAGES);
      }),
    );
  });
});

describe('HintBook', () => {
  it('refuses more ranges than it remembers, joins neighbours, and always takes a hint back', () => {
    const hints = new HintBook({ maxRanges: 4 });
    for (let at = 0; at < 3; at++) hints.hint('ram', pages(at * 2, 1), 'cold');
    expect(() => hints.hint('ram', pages(20, 1), 'cold')).toThrow(invalid);
    hints.hint('ram', pages(0, 1), 'normal');
    hints.hint('ram', pages(3, 1), 'cold');
    expect(hints.ranges).toBe(1);
  });

  it('knows the heat of a span: hot where any of it is, cold where all of it is', () => {
    const { hints } = attached();
    hints.hint('ram', pages(0, 16), 'cold');
    hints.hint('ram', pages(8, 1), 'hot');
    expect(hints.temperature('ram', pages(0, 8))).toBe('cold');
    expect(hints.temperature('ram', pages(0, 9))).toBe('hot');
    expect(hints.temperature('ram', pages(9, 8))).toBe('normal');
  });

  it.each([
    ['an unknown block', () => attached().hints.hint('rom', pages(0, 1), 'cold')],
    ['a range that leaves its block', () => attached().hints.hint('ram', pages(63, 2), 'cold')],
    ['an empty range', () => new HintBook().hint('ram', pages(0, 0), 'cold')],
    ['a negative offset', () => new HintBook().hint('ram', { offset: -1n, length: 2n }, 'cold')],
    ['an unknown kind', () => new HintBook().hint('ram', pages(0, 1), 'warm' as HintKind)],
    ['no room for ranges', () => new HintBook({ maxRanges: 0 })],
  ])('refuses %s', (_, act) => {
    expect(act).toThrow(invalid);
  });

  it('starts over for the next migration', () => {
    const { hints } = attached();
    hints.hint('ram', pages(0, 4), 'free');
    hints.detach();
    hints.hint('ram', pages(0, 1), 'normal');
    const again = attached(hints);
    expect(hints.takeFreed('ram')).toEqual([pages(1, 3)]);
    expect(again.bitmap.count()).toBe(PAGES - 3);
  });
});
