import fc from 'fast-check';
import { expect, test } from 'vitest';
import { native } from '../../lib/native/index.ts';
import type { NativeRuns } from '../../lib/native/memory.ts';
import { failure, MIB, PAGE, writePages } from './support.ts';

const PAGES = 256;

type Run = [offset: bigint, length: bigint];

function pairs(runs: NativeRuns): Run[] {
  return Array.from({ length: runs.length / 2 }, (_, i) => [runs[2 * i] ?? -1n, runs[2 * i + 1] ?? -1n]);
}

/** Runs of pages for which `holds` is true, as byte ranges. */
function runsOf(first: number, end: number, holds: (page: number) => boolean): Run[] {
  const found: Run[] = [];
  for (let page = first; page < end; page++) {
    if (!holds(page)) continue;
    const last = found.at(-1);
    const offset = BigInt(page * PAGE);
    if (last && last[0] + last[1] === offset) last[1] += BigInt(PAGE);
    else found.push([offset, BigInt(PAGE)]);
  }
  return found;
}

function bridged(found: Run[], gap: bigint): Run[] {
  const result: Run[] = [];
  for (const [offset, length] of found) {
    const last = result.at(-1);
    if (last && offset - (last[0] + last[1]) < gap) last[1] = offset + length - last[0];
    else result.push([offset, length]);
  }
  return result;
}

test('zero runs and data runs are those of a page-by-page model', async () => {
  const page = fc.integer({ min: 0, max: PAGES - 1 });
  const input = fc.record({
    data: fc.uniqueArray(page, { maxLength: 60 }),
    clean: fc.array(fc.tuple(page, fc.integer({ min: 0, max: 40 })), { maxLength: 8 }),
    window: fc.tuple(page, page),
    minZeroRun: fc.integer({ min: 0, max: 10 * PAGE }),
    mergeGap: fc.integer({ min: 0, max: 10 * PAGE }),
  });
  await fc.assert(
    fc.asyncProperty(input, async ({ data, clean, window, minZeroRun, mergeGap }) => {
      const mapping = await native.mapMemfd({ name: 'classified', length: MIB });
      const bitmap = native.createBitmap(PAGES);
      const candidates = new Set(Array.from({ length: PAGES }, (_, i) => i));
      bitmap.setRange(0, PAGES);
      for (const [first, wanted] of clean) {
        const count = Math.min(wanted, PAGES - first);
        bitmap.clearRange(first, count);
        for (let i = first; i < first + count; i++) candidates.delete(i);
      }
      await writePages(
        mapping,
        data.map((i) => [i, 1]),
      );
      const [first, end] = [Math.min(...window), Math.max(...window) + 1];
      const result = await mapping.classify(bitmap, {
        offset: BigInt(first * PAGE),
        length: BigInt((end - first) * PAGE),
        minZeroRun: BigInt(minZeroRun),
        mergeGap: BigInt(mergeGap),
        mostRead: 1n << 40n,
      });
      const filled = new Set(data);
      const zero = runsOf(first, end, (i) => candidates.has(i) && !filled.has(i)).filter(
        ([, length]) => length >= minZeroRun,
      );
      const isSent = (i: number) => zero.some(([o, l]) => BigInt(i * PAGE) >= o && BigInt(i * PAGE) < o + l);
      const left = runsOf(first, end, (i) => candidates.has(i) && !isSent(i));
      expect(pairs(result.zeroRuns)).toEqual(zero);
      expect(pairs(result.dataRuns)).toEqual(bridged(left, BigInt(mergeGap)));
      const zeroPages = zero.reduce((total, [, length]) => total + length, 0n) / BigInt(PAGE);
      expect(result.zeroPages).toBe(zeroPages);
      expect(bitmap.count()).toBe(candidates.size - Number(zeroPages));
      await mapping.close();
    }),
    { numRuns: 60 },
  );
});

test('a window that leaves mapping or bitmap, or cuts a page, is INVALID_ARGUMENT', async () => {
  const mapping = await native.mapMemfd({ name: 'windows', length: MIB });
  const bitmap = native.createBitmap(100);
  const base = { minZeroRun: 0n, mergeGap: 0n, mostRead: 1n << 40n };
  for (const [offset, length] of [
    [1n, 4096n],
    [0n, 4095n],
    [0n, MIB],
    [MIB, 4096n],
    [4096n, (1n << 64n) - 4096n],
  ] as const) {
    expect(await failure(mapping.classify(bitmap, { offset, length, ...base }))).toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
  }
  await mapping.close();
});

test('a bitmap counts, sets and clears as a set of page numbers does', () => {
  const range = fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 300 }), fc.integer({ min: 0, max: 300 }));
  fc.assert(
    fc.property(fc.array(range), (ranges) => {
      const bitmap = native.createBitmap(300);
      const model = new Set<number>();
      for (const [set, first, count] of ranges) {
        const apply = () => (set ? bitmap.setRange(first, count) : bitmap.clearRange(first, count));
        if (first + count > 300) {
          expect(apply).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
          continue;
        }
        apply();
        for (let i = first; i < first + count; i++) set ? model.add(i) : model.delete(i);
      }
      expect(bitmap.count()).toBe(model.size);
    }),
  );
});

test('createBitmap refuses impossible sizes', () => {
  expect(native.createBitmap(65).pages).toBe(65);
  for (const pages of [0, 2 ** 37, -1, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
    expect(() => native.createBitmap(pages)).toThrow();
  }
});
