import fc from 'fast-check';
import { expect, it } from 'vitest';
import { RangeSet } from '../../lib/ram/range-set.ts';

const SIZE = 200;

const operation = fc.record({
  add: fc.boolean(),
  from: fc.nat({ max: SIZE - 1 }),
  length: fc.integer({ min: 1, max: 40 }),
});

it('is the set of bytes that a plain array of flags says, in the fewest ranges', () => {
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 40 }), operation, (operations, probe) => {
      const set = new RangeSet();
      const flags = new Array<boolean>(SIZE + 40).fill(false);
      for (const { add, from, length } of operations) {
        const span = { offset: BigInt(from), length: BigInt(length) };
        if (add) set.add(span);
        else set.remove(span);
        flags.fill(add, from, from + length);
      }
      expect([...set]).toEqual(rangesOf(flags, 0, flags.length));
      const span = { offset: BigInt(probe.from), length: BigInt(probe.length) };
      const inside = rangesOf(flags, probe.from, probe.from + probe.length);
      expect([...set.within(span)]).toEqual(inside);
      expect(set.touches(span)).toBe(inside.length > 0);
    }),
  );
});

function rangesOf(flags: readonly boolean[], from: number, to: number) {
  const found: { offset: bigint; length: bigint }[] = [];
  for (let at = from; at < to; at++) {
    if (!flags[at]) continue;
    let end = at;
    while (end < to && flags[end]) end++;
    found.push({ offset: BigInt(at), length: BigInt(end - at) });
    at = end;
  }
  return found;
}
