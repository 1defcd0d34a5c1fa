import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  CHUNK_BYTES,
  chunksOf,
  registrationSpans,
  runs,
  type Span,
  SpanJoiner,
} from '../../lib/ram/spans.ts';

const PAGE = 4096n;

/** Disjoint ascending page runs in a block of the given pages. */
const pageRuns = (pages: number) =>
  fc.uniqueArray(fc.nat({ max: pages }), { minLength: 2, maxLength: 24 }).map((edges) => {
    const sorted = [...edges].sort((a, b) => a - b);
    const found: Span[] = [];
    for (let i = 0; i + 1 < sorted.length; i += 2) {
      const [from, to] = [BigInt(sorted[i] as number), BigInt(sorted[i + 1] as number)];
      found.push({ offset: from * PAGE, length: (to - from) * PAGE });
    }
    return found;
  });

describe('chunksOf', () => {
  it('covers the range with whole chunks, cut at the end of the block', () => {
    const length = 3n * CHUNK_BYTES + PAGE;
    expect(chunksOf({ offset: CHUNK_BYTES - PAGE, length: 2n * PAGE }, length)).toEqual({
      offset: 0n,
      length: 2n * CHUNK_BYTES,
      firstChunk: 0n,
      moreChunks: 1n,
    });
    expect(chunksOf({ offset: 3n * CHUNK_BYTES, length: PAGE }, length)).toEqual({
      offset: 3n * CHUNK_BYTES,
      length: PAGE,
      firstChunk: 3n,
      moreChunks: 0n,
    });
  });
});

describe('registrationSpans', () => {
  it('covers every run, and no two spans share or touch a chunk', () => {
    fc.assert(
      fc.property(pageRuns(4096), (data) => {
        const length = 4096n * PAGE;
        const spans = [...registrationSpans(data, length)];
        for (const run of data) {
          const holder = spans.find(
            (s) => s.offset <= run.offset && run.offset + run.length <= s.offset + s.length,
          );
          expect(holder).toBeDefined();
        }
        for (let i = 1; i < spans.length; i++) {
          const before = spans[i - 1] as (typeof spans)[number];
          expect((spans[i] as (typeof spans)[number]).firstChunk).toBeGreaterThan(
            before.firstChunk + before.moreChunks + 1n,
          );
        }
      }),
    );
  });
});

describe('SpanJoiner', () => {
  it('joins neighbours across pushes and loses nothing', () => {
    fc.assert(
      fc.property(pageRuns(512), fc.array(fc.nat({ max: 5 })), (spans, cuts) => {
        const joiner = new SpanJoiner();
        const out: Span[] = [];
        const keep = (span: Span | undefined) => span && out.push(span);
        spans.forEach((span, i) => {
          const head = (BigInt(cuts[i] ?? 0) * PAGE) % span.length;
          if (head > 0n) keep(joiner.push({ offset: span.offset, length: head }));
          keep(joiner.push({ offset: span.offset + head, length: span.length - head }));
        });
        keep(joiner.flush());
        expect(out).toEqual(spans);
        expect(joiner.flush()).toBeUndefined();
      }),
    );
  });
});

describe('runs', () => {
  it('unpacks pairs and ignores an odd end', () => {
    expect([...runs(new BigUint64Array([1n, 2n, 3n, 4n, 5n]))]).toEqual([
      { offset: 1n, length: 2n },
      { offset: 3n, length: 4n },
    ]);
  });
});
