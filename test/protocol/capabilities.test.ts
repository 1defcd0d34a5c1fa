import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  acceptCapabilities,
  answerCapabilities,
  requestCapabilities,
} from '../../lib/protocol/capabilities.ts';
import { FLAG, unpadded } from '../../lib/protocol/extension.ts';
import { decodeCapabilities, encodeCapabilities, isSoftwareRnic } from '../../lib/protocol/private-data.ts';
import { rejectedFor, rejectionCapabilities, requireTls } from '../../lib/protocol/rejection.ts';
import { crc32c } from '../support/raw-crc32c.ts';
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
/** QEMU's 8 bytes and a whole tail with its check value. */
function checked(pinAll: boolean, flags: number, bytes = 0n): Uint8Array {
  const all = (check: number) =>
    v1(1, pinAll ? 1 : 0)
      .raw(tail(1, 24, flags))
      .u64(bytes)
      .u32(check)
      .bytes();
  return all(crc32c(all(0)));
}

describe('a software RNIC', () => {
  const on = { ...ALL, softwareRnic: true };
  it('is known by its request and by its reply, whatever the other end is', () => {
    expect(isSoftwareRnic(requestCapabilities(on))).toBe(true);
    expect(isSoftwareRnic(answerCapabilities(requestCapabilities(ALL), on).reply)).toBe(true);
  });

  it('is not taken for granted: of ours on a device, of QEMU, of garbage and of damage', () => {
    expect(isSoftwareRnic(requestCapabilities(ALL))).toBe(false);
    expect(isSoftwareRnic(answerCapabilities(requestCapabilities(on), ALL).reply)).toBe(false);
    for (const name of TRACES) {
      expect(isSoftwareRnic(privateData(name).request)).toBe(false);
      // A version 1 peer gets no tail, and cannot ask.
      expect(isSoftwareRnic(answerCapabilities(privateData(name).request, on).reply)).toBe(false);
    }
    expect(isSoftwareRnic(new Uint8Array(3))).toBe(false);
    const damaged = requestCapabilities(on);
    damaged[30] = (damaged[30] ?? 0) ^ 1;
    expect(isSoftwareRnic(damaged)).toBe(false);
  });
});

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
      reasons: false,
      alive: false,
      progress: false,
      extended: false,
      channels: 1,
    });
    expect(acceptCapabilities(reply, ALL)).toEqual(answered.agreed);
    expect(hex(encodeCapabilities(decodeCapabilities(request)))).toBe(hex(request));
  });
});

describe('requestCapabilities', () => {
  it('is QEMU’s 8 bytes followed by our tail, within what InfiniBand leaves', () => {
    expect(hex(requestCapabilities(ALL))).toBe(hex(checked(true, 9)));
    expect(hex(requestCapabilities(NONE))).toBe(hex(checked(false, 8)));
    expect(requestCapabilities(ALL).length).toBeLessThanOrEqual(PRIVATE_DATA_MAX_BYTES);
  });
});

describe('two ends of ours', () => {
  const flags = {
    pinAll: fc.boolean(),
    commit: fc.boolean(),
    sparse: fc.boolean(),
    alive: fc.boolean(),
    progress: fc.boolean(),
  };
  const bytes = fc.bigInt(0n, U64);
  const requiredKeys = ['pinAll', 'commit', 'sparse', 'alive', 'progress'] as const;
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
          reasons: true,
          alive: source.alive && destination.alive,
          progress: source.progress && destination.progress,
          ...(source.ramBytes !== undefined && destination.pinBudget !== undefined
            ? { pinBudget: destination.pinBudget }
            : {}),
          extended: true,
          channels: 1,
        });
      }),
    );
  });
});

describe('TLS', () => {
  const [plain, tls] = [ALL, { ...ALL, tls: true }];
  const required = expect.objectContaining({ code: 'TLS_REQUIRED' });
  const codeOf = (work: () => unknown): unknown => {
    try {
      return work();
    } catch (error) {
      return error;
    }
  };

  it('is agreed where both ends have credentials', () => {
    const { reply } = answerCapabilities(requestCapabilities(tls), tls);
    expect(() => requireTls(reply)).not.toThrow();
  });

  it('is never left out: one end without it is refused, of ours, QEMU’s or an older one', () => {
    expect(codeOf(() => answerCapabilities(requestCapabilities(plain), tls))).toEqual(required);
    expect(codeOf(() => answerCapabilities(requestCapabilities(tls), plain))).toEqual(required);
    expect(codeOf(() => answerCapabilities(v1(1, 1).bytes(), tls))).toEqual(required);
    const answers = [v1(1, 1).bytes(), answerCapabilities(requestCapabilities(plain), plain).reply];
    for (const reply of answers) expect(codeOf(() => requireTls(reply))).toEqual(required);
  });

  it('is why a peer is rejected, where one end has it and the other does not', () => {
    const cause = new Error('rejected');
    const [withTls, without] = [rejectionCapabilities({ tls: true }), rejectionCapabilities()];
    expect(rejectedFor(withTls, false, cause)).toMatchObject({ code: 'TLS_REQUIRED', cause });
    expect(rejectedFor(without, true, cause)).toMatchObject({ code: 'TLS_REQUIRED', cause });
    expect(rejectedFor(withTls, true, cause)).toBeUndefined();
    expect(rejectedFor(without, false, cause)).toBeUndefined();
    // A device gives zeros where a rejection came without a word.
    for (const unreadable of [new Uint8Array(), new Uint8Array(3), new Uint8Array(148)])
      for (const credentials of [true, false])
        expect(rejectedFor(unreadable, credentials, cause)).toBeUndefined();
  });
});

describe('private data without its padding', () => {
  it('is what its sender made', () => {
    const all = [
      requestCapabilities(ALL),
      answerCapabilities(requestCapabilities(ALL), ALL).reply,
      v1(1, 1).bytes(),
    ];
    for (const data of all)
      for (const zeros of [0, 1, 100])
        expect(hex(unpadded(Buffer.concat([data, Buffer.alloc(zeros)])))).toBe(hex(data));
  });
});

describe('answerCapabilities', () => {
  it('clears unknown flags, of QEMU’s word and of ours', () => {
    const request = v1(1, 0xffff_ffff)
      .raw(tail(1, 12, (0xffff_ffff & ~(FLAG.TLS | FLAG.STATUS)) >>> 0))
      .bytes();
    expect(hex(answerCapabilities(request, ALL).reply)).toBe(
      hex(
        v1(1, 1)
          .raw(tail(1, 12, 9))
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

  it.each([1, 12, 48])('refuses %i bytes after QEMU’s that are neither zeros nor ours', (length) => {
    const data = v1(1, 0).raw(new Uint8Array(length).fill(3)).bytes();
    failure(() => answerCapabilities(data, ALL), 'PROTOCOL_ERROR');
    failure(() => acceptCapabilities(data, ALL), 'PROTOCOL_ERROR');
  });

  it.each([0, 12, 48])('takes QEMU’s bytes followed by %i zeros for a v1 peer’s', (length) => {
    const { reply, agreed } = answerCapabilities(v1(1, 0).raw(new Uint8Array(length)).bytes(), ALL);
    expect(reply).toHaveLength(8);
    expect(agreed.extended).toBe(false);
  });

  it.each([0, 2, 0xffff_ffff])('refuses version %i, and names 1 in the rejection', (version) => {
    failure(() => answerCapabilities(v1(version, 0).bytes(), ALL), 'VERSION_MISMATCH');
    expect(hex(rejectionCapabilities())).toBe(hex(v1(1, 0).bytes()));
  });
});

describe('a pin budget', () => {
  const request = requestCapabilities({ ...ALL, ramBytes: 1n << 30n });

  it('travels after the flags, with the RAM of the source on the way there', () => {
    expect(hex(request)).toBe(hex(checked(true, 11, 1n << 30n)));
    const { reply } = answerCapabilities(request, { ...ALL, pinAll: false, pinBudget: 64n << 20n });
    expect(hex(reply)).toBe(hex(checked(false, 11, 64n << 20n)));
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
    expect(agreed).toEqual({
      version: 1,
      pinAll: true,
      commit: true,
      sparse: false,
      reasons: false,
      alive: false,
      progress: false,
      extended: true,
      channels: 1,
    });
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

describe('an older release, which has no check value', () => {
  const OLDER = [
    v1(1, 1).raw(tail(1, 12, 5)),
    v1(1, 1)
      .raw(tail(1, 20, 7))
      .u64(1n << 21n),
  ];
  it.each(OLDER.map((builder) => builder.bytes()))('agrees with this one: %#', (bytes) => {
    const offer = { ...ALL, sparse: true, ramBytes: 1n };
    expect(acceptCapabilities(bytes, offer)).toMatchObject({ pinAll: true, commit: true, sparse: true });
    const { reply, agreed } = answerCapabilities(bytes, { ...ALL, sparse: true, pinBudget: 1n << 21n });
    expect(agreed).toMatchObject({ pinAll: true, commit: true, sparse: true });
    expect(reply).toHaveLength(bytes.length);
  });
});

/** Both ends as they would go on; undefined: one of them refuses. */
function negotiated(damageRequest: (bytes: Uint8Array) => Uint8Array, damageReply: typeof damageRequest) {
  const offer = { ...ALL, sparse: true };
  return orMigrationError(() => {
    const request = damageRequest(requestCapabilities({ ...offer, ramBytes: 1n << 30n }));
    const { reply, agreed } = answerCapabilities(request, { ...offer, pinBudget: 64n << 20n });
    return { source: acceptCapabilities(damageReply(reply), { ...offer, ramBytes: 1n << 30n }), agreed };
  });
}

const intact = (bytes: Uint8Array): Uint8Array => bytes;
const flipped =
  (...bits: number[]) =>
  (bytes: Uint8Array): Uint8Array => {
    const copy = bytes.slice();
    for (const bit of bits) copy[bit >> 3] = (copy[bit >> 3] as number) ^ (1 << (bit & 7));
    return copy;
  };
/** What InfiniBand makes of it. */
const padded =
  (damage: typeof intact) =>
  (bytes: Uint8Array): Uint8Array =>
    damage(
      new Builder()
        .raw(bytes)
        .raw(new Uint8Array(PRIVATE_DATA_MAX_BYTES - bytes.length))
        .bytes(),
    );

describe('damage between two ends of ours', () => {
  const BITS = 8 * 32;
  const PADDED_BITS = 8 * PRIVATE_DATA_MAX_BYTES;

  it('of any one bit of request or reply makes an end refuse', () => {
    expect(negotiated(intact, intact)).toBeDefined();
    for (let bit = 0; bit < BITS; bit++) {
      expect(negotiated(flipped(bit), intact), `bit ${bit} of the request`).toBeUndefined();
      expect(negotiated(intact, flipped(bit)), `bit ${bit} of the reply`).toBeUndefined();
    }
  });

  it('of any one bit is found when a provider’s zeros follow, too', () => {
    expect(negotiated(padded(intact), padded(intact))).toBeDefined();
    for (let bit = 0; bit < PADDED_BITS; bit++) {
      expect(negotiated(padded(flipped(bit)), padded(intact)), `bit ${bit}`).toBeUndefined();
      expect(negotiated(padded(intact), padded(flipped(bit))), `bit ${bit}`).toBeUndefined();
    }
  });

  it('of up to five bits makes an end refuse', () => {
    const bits = fc.uniqueArray(fc.nat(BITS - 1), { minLength: 1, maxLength: 5 });
    fc.assert(
      fc.property(bits, fc.boolean(), (some, inRequest) => {
        const damage = flipped(...some);
        expect(negotiated(inRequest ? damage : intact, inRequest ? intact : damage)).toBeUndefined();
      }),
      { numRuns: 2000 },
    );
  });

  it('that cuts private data short makes an end refuse', () => {
    for (let length = 0; length < 32; length++) {
      // Cut there it is a v1 peer's, and what was cut off comes as the first bytes after the handshake, which no stream begins with.
      if (length === 8) continue;
      const cut = (bytes: Uint8Array): Uint8Array => bytes.subarray(0, length);
      expect(negotiated(cut, intact), `${length} bytes of the request`).toBeUndefined();
      expect(negotiated(intact, cut), `${length} bytes of the reply`).toBeUndefined();
    }
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
      reasons: false,
      alive: false,
      progress: false,
      extended: true,
      channels: 1,
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
