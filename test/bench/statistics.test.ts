import { expect, it } from 'vitest';
import { median, medianOf, spreadOf } from '../../bench/support/statistics.ts';

it('the median of an odd number of values is the middle one, whatever their order', () => {
  expect(median([9, 1, 10])).toBe(9);
  expect(median([2])).toBe(2);
});

it('the median of an even number of values is between the middle two', () => {
  expect(median([4, 1, 3, 100])).toBe(3.5);
});

it('nothing has no median', () => {
  expect(() => median([])).toThrow(RangeError);
});

it('a spread has the least, the median and the most', () => {
  expect(spreadOf([3, 1, 2])).toEqual({ least: 1, median: 2, most: 3 });
});

it('samples without a figure do not count as zero', () => {
  expect(medianOf([{ a: 1 }, {}, { a: 3 }], ({ a }: { a?: number }) => a)).toBe(2);
  expect(medianOf([{}, {}], ({ a }: { a?: number }) => a)).toBeUndefined();
});
