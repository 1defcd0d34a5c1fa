import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  leastPinBudget,
  type Pin,
  PinWindow,
  pinGranule,
  pinnedSpanBytes,
  spanBytesFor,
  type Warmth,
} from '../../lib/migration/pins/pin-window.ts';
import { CHUNK_BYTES, type ChunkSpan, chunksOf } from '../../lib/ram/spans.ts';

const CHUNKS = 64;
const LENGTH = BigInt(CHUNKS) * CHUNK_BYTES - 4096n;
const chunks = (first: number, count: number): ChunkSpan =>
  chunksOf({ offset: BigInt(first) * CHUNK_BYTES, length: BigInt(count) * CHUNK_BYTES - 4096n }, LENGTH);

describe('pinnedSpanBytes', () => {
  const WINDOW = 256n << 20n;

  it('is short, and grows with RAM so that the spans stay countable', () => {
    expect(pinnedSpanBytes(1n << 20n)).toBe(32n << 20n);
    expect(pinnedSpanBytes(128n << 30n)).toBe(32n << 20n);
    expect(pinnedSpanBytes(4n << 40n)).toBe(128n << 20n);
    for (const ram of [1n << 40n, 3n << 40n, 8n << 40n])
      expect(ram / pinnedSpanBytes(ram)).toBeLessThanOrEqual(32768n);
  });

  it('leaves several for a window, which is what a message can ask for', () => {
    expect(WINDOW / pinnedSpanBytes(1n << 40n)).toBe(8n);
    expect(WINDOW / pinnedSpanBytes(2n << 40n)).toBe(4n);
    expect(pinnedSpanBytes(8n << 40n)).toBe(WINDOW);
  });
});

describe('spanBytesFor', () => {
  it('is an eighth of the budget, or a quarter, in whole granules, at least one, and no longer than a window without a budget', () => {
    const [granule, most] = [CHUNK_BYTES, 1n << 30n];
    const single = (budget: bigint | undefined, unit = granule) => spanBytesFor(budget, unit, most, 'single');
    expect(spanBytesFor(64n << 20n, granule, most, 'batched')).toBe(8n << 20n);
    expect(single(64n << 20n)).toBe(16n << 20n);
    expect(single((7n << 20n) + 5n)).toBe(1n << 20n);
    expect(single(2n << 20n)).toBe(1n << 20n);
    expect(single(undefined)).toBe(most);
    expect(single(1n << 40n)).toBe(most);
    expect(single(9n << 20n, 2n << 20n)).toBe(2n << 20n);
    expect(pinGranule([4096, 2 << 20])).toBe(2n << 20n);
  });

  it('always leaves room for two spans in a budget that is large enough to be taken', () => {
    fc.assert(
      fc.property(
        fc.bigInt(0n, 1n << 42n),
        fc.constantFrom(CHUNK_BYTES, 2n << 20n, 1n << 30n),
        (more, granule) => {
          const budget = leastPinBudget(granule) + more;
          expect(spanBytesFor(budget, granule, 1n << 30n, 'single') * 2n).toBeLessThanOrEqual(budget);
        },
      ),
    );
  });
});

describe('PinWindow', () => {
  const use = fc.record({
    index: fc.nat({ max: 1 }),
    first: fc.nat({ max: CHUNKS - 1 }),
    count: fc.integer({ min: 1, max: 20 }),
    /** How many of the uses under way end before this one begins. */
    ended: fc.nat({ max: 6 }),
  });
  const budgets = fc.integer({ min: 2, max: 24 }).map((n) => BigInt(n) * CHUNK_BYTES);

  it('is never above the budget, evicts nothing in use, and every chunk asked for is in a span that is registered', () => {
    fc.assert(
      fc.property(budgets, fc.array(use, { maxLength: 60 }), (budget, uses) => {
        const spanBytes = spanBytesFor(budget, CHUNK_BYTES, 1n << 30n, 'single');
        const window = new PinWindow<number>([LENGTH, LENGTH], { budget, spanBytes });
        const inUse: Pin<number>[] = [];
        let key = 0;
        for (const { index, first, count, ended } of uses) {
          for (const pin of inUse.splice(0, ended)) window.release(pin);
          const wanted = chunks(first, Math.min(count, CHUNKS - first));
          for (let rest: ChunkSpan | undefined = wanted; rest; ) {
            const head = window.head(index, rest);
            expect(head.span.offset).toBe(rest.offset);
            expect(head.span.length).toBeGreaterThan(0n);
            if (head.pin) {
              window.use(head.pin);
              expectInside(head.span, head.pin.span);
              inUse.push(head.pin);
            } else {
              expect(head.span.length).toBeLessThanOrEqual(spanBytes);
              let victims = window.victims(head.span.length);
              while (!victims) {
                window.release(inUse.shift() as Pin<number>);
                victims = window.victims(head.span.length);
              }
              for (const victim of victims) {
                expect(inUse).not.toContain(victim);
                window.remove(victim);
              }
              inUse.push(window.add(index, head.span, key++));
            }
            expect(window.bytes).toBeLessThanOrEqual(budget);
            expect(window.bytes).toBe(window.pins().reduce((sum, { span }) => sum + span.length, 0n));
            for (const pin of inUse) expect(window.pins()).toContain(pin);
            rest = behind(rest, head.span);
          }
          expectDisjoint(window.pins());
        }
        expect(window.peak).toBeLessThanOrEqual(budget);
      }),
    );
  });

  it('evicts cold spans first and hot ones last, within that the least recently used', () => {
    const warmth: readonly Warmth[] = ['hot', 'normal', 'cold', 'normal'];
    const window = new PinWindow<number>(
      [LENGTH],
      { budget: 4n * CHUNK_BYTES, spanBytes: CHUNK_BYTES },
      (_, { firstChunk }) => warmth[Number(firstChunk)] ?? 'normal',
    );
    const pins = [0, 1, 2, 3].map((chunk) => window.add(0, chunks(chunk, 1), chunk));
    for (const pin of pins) window.release(pin);
    window.use(pins[1] as Pin<number>);
    window.release(pins[1] as Pin<number>);
    expect(window.victims(4n * CHUNK_BYTES)?.map(({ handle }) => handle)).toEqual([2, 3, 1, 0]);
    expect(window.victims(CHUNK_BYTES)?.map(({ handle }) => handle)).toEqual([2]);
  });

  it('says so when what would have to go is in use', () => {
    const window = new PinWindow<number>([LENGTH], { budget: 2n * CHUNK_BYTES, spanBytes: CHUNK_BYTES });
    const pin = window.add(0, chunks(0, 1), 0);
    window.add(0, chunks(1, 1), 1);
    expect(window.victims(CHUNK_BYTES)).toBeUndefined();
    window.release(pin);
    expect(window.victims(CHUNK_BYTES)).toEqual([pin]);
    expect(window.victims(2n * CHUNK_BYTES)).toBeUndefined();
  });

  it('without a budget evicts nothing', () => {
    const window = new PinWindow<number>([LENGTH], { budget: undefined, spanBytes: LENGTH });
    window.release(window.add(0, chunks(0, CHUNKS), 0));
    expect(window.victims(1n << 60n)).toEqual([]);
    expect(window.head(0, chunks(3, 2)).pin?.handle).toBe(0);
  });
});

function behind(range: ChunkSpan, head: ChunkSpan): ChunkSpan | undefined {
  const offset = head.offset + head.length;
  const length = range.offset + range.length - offset;
  return length > 0n ? chunksOf({ offset, length }, LENGTH) : undefined;
}

function expectInside(part: ChunkSpan, whole: ChunkSpan): void {
  expect(part.offset).toBeGreaterThanOrEqual(whole.offset);
  expect(part.offset + part.length).toBeLessThanOrEqual(whole.offset + whole.length);
}

function expectDisjoint(pins: readonly Pin<number>[]): void {
  for (const index of [0, 1]) {
    const spans = pins.filter((pin) => pin.index === index).map(({ span }) => span);
    spans.sort((a, b) => Number(a.offset - b.offset));
    for (let i = 1; i < spans.length; i++) {
      const before = spans[i - 1] as ChunkSpan;
      expect((spans[i] as ChunkSpan).firstChunk).toBeGreaterThan(before.firstChunk + before.moreChunks);
    }
  }
}
