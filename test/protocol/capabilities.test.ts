import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  acceptCapabilities,
  answerCapabilities,
  decodeCapabilities,
  encodeCapabilities,
  rejectionCapabilities,
  requestCapabilities,
} from '../../lib/protocol/capabilities.ts';
import { Builder, hex } from './builder.ts';
import { failure, orMigrationError } from './errors.ts';
import { privateData, TRACES } from './traces.ts';

const ALL = { pinAll: true, commit: true };
const NONE = { pinAll: false, commit: false };
/** What InfiniBand leaves for private data of a request: more than that a device refuses. */
const PRIVATE_DATA_MAX_BYTES = 56;
const U64 = (1n << 64n) - 1n;
const v1 = (version: number, flags: number) => new Builder().u32(version).u32(flags);
const tail = (version: number, length: number, flags: number) =>
  new Builder().text('RDMg').u16(version).u16(length).u32(flags).bytes();

describe('captured private data', () => {
  it.each(TRACES)('of %s is read, and answered as QEMU answers', (name) => {
    const { request, reply } = privateData(name);
    const answered = answerCapabilities(request, ALL);
    expect(hex(answered.reply)).toBe(hex(reply));
    expect(answered.agreed).toEqual({
      version: 1,
      pinAll: name === 'pin-all',
      commit: false,
      sparse: false,
      extended: false,
    });
    expect(acceptCapabilities(reply, ALL)).toEqual(answered.agreed);
    expect(hex(encodeCapabilities(decodeCapabilities(request)))).toBe(hex(request));
  });
});

describe('requestCapabilities', () => {
  it('is QEMU’s 8 bytes with our tail behind them, within what InfiniBand leaves', () => {
    expect(hex(requestCapabilities(ALL))).toBe(
      hex(
        v1(1, 1)
          .raw(tail(1, 12, 1))
          .bytes(),
      ),
    );
    expect(hex(requestCapabilities(NONE))).toBe(
      hex(
        v1(1, 0)
          .raw(tail(1, 12, 0))
          .bytes(),
      ),
    );
    expect(requestCapabilities(ALL).length).toBeLessThanOrEqual(PRIVATE_DATA_MAX_BYTES);
  });
});

describe('two ends of ours', () => {
  const flags = { pinAll: fc.boolean(), commit: fc.boolean(), sparse: fc.boolean() };
  const bytes = fc.bigInt(0n, U64);
  const requiredKeys = ['pinAll', 'commit', 'sparse'] as const;
  const sourceOffer = fc.record({ ...flags, ramBytes: bytes }, { requiredKeys: [...requiredKeys] });
  const destinationOffer = fc.record({ ...flags, pinBudget: bytes }, { requiredKeys: [...requiredKeys] });
  it('agree on what both want, whatever zeros the provider appends', () => {
    fc.assert(
      fc.property(sourceOffer, destinationOffer, fc.nat(148), (source, destination, zeros) => {
        const pad = (bytes: Uint8Array) => new Builder().raw(bytes).raw(new Uint8Array(zeros)).bytes();
        const { reply, agreed } = answerCapabilities(pad(requestCapabilities(source)), destination);
        expect(acceptCapabilities(pad(reply), source)).toEqual(agreed);
        expect(reply.length).toBeLessThanOrEqual(PRIVATE_DATA_MAX_BYTES);
        expect(agreed).toEqual({
          version: 1,
          pinAll: source.pinAll && destination.pinAll,
          commit: source.commit && destination.commit,
          sparse: source.sparse && destination.sparse,
          ...(source.ramBytes !== undefined && destination.pinBudget !== undefined
            ? { pinBudget: destination.pinBudget }
            : {}),
          extended: true,
        });
      }),
    );
  });
});

describe('answerCapabilities', () => {
  it('clears unknown flags, of QEMU’s word and of ours', () => {
    const request = v1(1, 0xffff_ffff)
      .raw(tail(1, 12, 0xffff_ffff))
      .bytes();
    expect(hex(answerCapabilities(request, ALL).reply)).toBe(
      hex(
        v1(1, 1)
          .raw(tail(1, 12, 1))
          .bytes(),
      ),
    );
  });

  it('answers a newer extension with its own version', () => {
    const newer = v1(1, 0)
      .raw(tail(9, 20, 3))
      .raw(new Uint8Array(8).fill(7))
      .bytes();
    const { reply, agreed } = answerCapabilities(newer, ALL);
    expect(hex(reply)).toBe(
      hex(
        v1(1, 0)
          .raw(tail(1, 12, 1))
          .bytes(),
      ),
    );
    expect(agreed.commit).toBe(true);
  });

  it('takes longer private data without our magic for a v1 peer’s', () => {
    const { reply, agreed } = answerCapabilities(v1(1, 0).raw(new Uint8Array(48).fill(3)).bytes(), ALL);
    expect(reply).toHaveLength(8);
    expect(agreed.extended).toBe(false);
  });

  it.each([0, 2, 0xffff_ffff])('refuses version %i, and names 1 in the rejection', (version) => {
    failure(() => answerCapabilities(v1(version, 0).bytes(), ALL), 'VERSION_MISMATCH');
    expect(hex(rejectionCapabilities())).toBe(hex(v1(1, 0).bytes()));
  });
});

describe('a pin budget', () => {
  const tail20 = (flags: number, bytes: bigint) =>
    new Builder().text('RDMg').u16(1).u16(20).u32(flags).u64(bytes).bytes();
  const request = requestCapabilities({ ...ALL, ramBytes: 1n << 30n });

  it('travels behind the flags, with the RAM of the source on the way there', () => {
    expect(hex(request)).toBe(
      hex(
        v1(1, 1)
          .raw(tail20(3, 1n << 30n))
          .bytes(),
      ),
    );
    const { reply } = answerCapabilities(request, { ...ALL, pinAll: false, pinBudget: 64n << 20n });
    expect(hex(reply)).toBe(
      hex(
        v1(1, 0)
          .raw(tail20(3, 64n << 20n))
          .bytes(),
      ),
    );
    expect(acceptCapabilities(reply, { ...ALL, ramBytes: 1n << 30n })).toMatchObject({
      pinAll: false,
      pinBudget: 64n << 20n,
    });
  });

  it('is not told to a source that knows none, of whatever tail', () => {
    const offer = { ...NONE, pinBudget: 64n << 20n };
    for (const asked of [
      v1(1, 0).bytes(),
      v1(1, 0)
        .raw(tail(1, 12, 1))
        .bytes(),
    ]) {
      const { reply, agreed } = answerCapabilities(asked, offer);
      expect(reply.length).toBe(asked.length);
      expect(agreed.pinBudget).toBeUndefined();
    }
  });

  it('is read from a source that does not say how much RAM it has', () => {
    const asked = v1(1, 1)
      .raw(tail(1, 12, 3))
      .bytes();
    const { agreed } = answerCapabilities(asked, { ...ALL, pinBudget: 4n, pinAllLimit: 1n });
    expect(agreed).toMatchObject({ pinBudget: 4n, pinAll: true });
  });

  it('that an old destination does not have leaves its tail of 12 bytes as it was', () => {
    const reply = v1(1, 1)
      .raw(tail(1, 12, 1))
      .bytes();
    const agreed = acceptCapabilities(reply, { ...ALL, sparse: true, ramBytes: 1n });
    expect(agreed).toEqual({ version: 1, pinAll: true, commit: true, sparse: false, extended: true });
  });

  it('decides whether a source of that size gets pin-all', () => {
    const granted = (pinAllLimit: bigint) =>
      answerCapabilities(request, { ...ALL, pinAllLimit }).agreed.pinAll;
    expect([granted((1n << 30n) - 1n), granted(1n << 30n)]).toEqual([false, true]);
  });

  it('that is granted without a number is refused', () => {
    const reply = v1(1, 0)
      .raw(tail(1, 12, 2))
      .bytes();
    failure(() => acceptCapabilities(reply, { ...ALL, ramBytes: 1n }), 'PROTOCOL_ERROR');
  });
});

describe('acceptCapabilities', () => {
  it('ignores what is granted unasked', () => {
    const reply = v1(1, 1)
      .raw(tail(1, 12, 1))
      .bytes();
    expect(acceptCapabilities(reply, NONE)).toEqual({
      version: 1,
      pinAll: false,
      commit: false,
      sparse: false,
      extended: true,
    });
  });

  it('refuses another version', () => {
    failure(() => acceptCapabilities(v1(2, 0).bytes(), ALL), 'VERSION_MISMATCH');
  });
});

describe('decodeCapabilities', () => {
  it('refuses short private data', () => {
    for (let length = 0; length < 8; length++) {
      failure(() => decodeCapabilities(v1(1, 0).bytes().subarray(0, length)), 'PROTOCOL_ERROR');
    }
  });

  it.each([
    ['version 0', tail(0, 12, 0)],
    ['a length below its own', tail(1, 11, 0)],
    ['a length beyond the bytes', tail(1, 13, 0)],
  ])('refuses a tail of ours with %s', (_name, bytes) => {
    failure(() => decodeCapabilities(v1(1, 0).raw(bytes).bytes()), 'PROTOCOL_ERROR');
  });

  it('random bytes only ever bring a MigrationError', () => {
    const random = fc.uint8Array({ maxLength: 64 });
    fc.assert(fc.property(random, (bytes) => void orMigrationError(() => decodeCapabilities(bytes))));
    fc.assert(
      fc.property(random, (bytes) => {
        const tailed = v1(1, 0).text('RDMg').raw(bytes).bytes();
        orMigrationError(() => decodeCapabilities(tailed));
      }),
    );
  });
});
