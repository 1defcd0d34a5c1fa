import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { decodeProgress, encodeProgress } from '../../lib/protocol/progress.ts';
import { Builder } from './builder.ts';
import { failure } from './errors.ts';

const count = fc.maxSafeNat();
const account = fc.record({
  round: fc.nat(0xffff_ffff),
  pending: count,
  content: count,
  zero: count,
  foundContent: count,
  foundZero: count,
});

describe('PROGRESS', () => {
  it('crosses whatever it says', () => {
    fc.assert(
      fc.property(account, (told) => {
        expect(decodeProgress(encodeProgress(told))).toEqual(told);
      }),
    );
  });

  it('of another length is refused', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (data) => {
        if (data.length !== 48) failure(() => decodeProgress(data), 'PROTOCOL_ERROR');
      }),
    );
  });

  it('with a count that no machine has, or bits that are reserved, is refused', () => {
    const counts = (reserved: number, first: bigint): Uint8Array =>
      new Builder().u32(1).u32(reserved).u64(first).u64(0n).u64(0n).u64(0n).u64(0n).bytes();
    expect(decodeProgress(counts(0, 1n)).pending).toBe(1);
    failure(() => decodeProgress(counts(1, 1n)), 'PROTOCOL_ERROR');
    failure(() => decodeProgress(counts(0, 1n << 53n)), 'PROTOCOL_ERROR');
  });
});
