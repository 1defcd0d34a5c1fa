/** The fields of our tail that came after its check: the migration's id, its channels, its rails. */
import { randomUUID } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  acceptCapabilities,
  answerCapabilities,
  requestCapabilities,
} from '../../lib/protocol/capabilities.ts';
import { decodeCapabilities } from '../../lib/protocol/private-data.ts';
import { acceptRail, answerRail, railOf, requestRail } from '../../lib/protocol/rail-request.ts';
import { crc32c } from '../support/raw-crc32c.ts';
import { Builder, hex } from './builder.ts';
import { failure, orMigrationError } from './errors.ts';

const OFFER = { pinAll: true, commit: true, sparse: true, alive: true };
const ID = '01234567-89ab-4def-8123-456789abcdef';
/** What InfiniBand leaves for private data of a request: more than that a device refuses. */
const PRIVATE_DATA_MAX_BYTES = 56;

/** Private data of ours with these fields after the check. `length`: what the tail says, if not what it has. */
function tail(flags: number, fields: Uint8Array, length = 24 + fields.length): Uint8Array {
  const all = (check: number) =>
    new Builder()
      .u32(1)
      .u32(0)
      .text('RDMg')
      .u16(1)
      .u16(length)
      .u32(flags)
      .u64(0n)
      .u32(check)
      .raw(fields)
      .bytes();
  const whole = all(0);
  return all(crc32c(whole.subarray(0, 8 + length)));
}

const id = Buffer.from(ID.replaceAll('-', ''), 'hex');
const channels = (count: number) => new Builder().u16(count).bytes();
const rail = (token: bigint, index: number) => new Builder().u64(token).u16(index).bytes();

describe('a migration id', () => {
  it('goes to the destination, within what InfiniBand leaves', () => {
    const request = requestCapabilities({ ...OFFER, ramBytes: 1n << 40n, migrationId: ID, channels: 16 });
    expect(request).toHaveLength(50);
    const { migrationId, reply } = answerCapabilities(request, {
      ...OFFER,
      pinBudget: 1n << 30n,
      channels: 16,
    });
    expect(migrationId).toBe(ID);
    expect(reply.length).toBeLessThanOrEqual(PRIVATE_DATA_MAX_BYTES);
    expect(hex(reply)).not.toContain(hex(id));
  });

  it('has the bytes that RFC 9562 gives it', () => {
    expect(hex(requestCapabilities({ pinAll: false, commit: false, migrationId: ID }))).toBe(
      hex(tail(0x28, id)),
    );
    fc.assert(
      fc.property(fc.uuid(), (migrationId) => {
        const request = requestCapabilities({ ...OFFER, migrationId });
        expect(answerCapabilities(request, OFFER).migrationId).toBe(migrationId);
      }),
    );
  });

  it('is not there from a version 1 source, or an older release', () => {
    const qemu = new Builder().u32(1).u32(1).bytes();
    expect(answerCapabilities(qemu, OFFER).migrationId).toBeUndefined();
    const older = tail(0xffff_bbff, new Uint8Array()).slice(0, 20);
    older[15] = 12;
    expect(answerCapabilities(older, OFFER).migrationId).toBeUndefined();
  });
});

describe('channels', () => {
  const granted = (wanted: number, most: number) => {
    const offer = { ...OFFER, channels: wanted };
    const { reply, agreed } = answerCapabilities(requestCapabilities(offer), { ...OFFER, channels: most });
    expect(acceptCapabilities(reply, offer)).toEqual(agreed);
    return agreed;
  };

  it.each([
    [1, 1, 1],
    [4, 1, 1],
    [1, 4, 1],
    [4, 4, 4],
    [16, 3, 3],
    [2, 16, 2],
  ])('of %i that are wanted and %i at most are %s', (wanted, most, result) => {
    expect(granted(wanted, most).channels).toBe(result);
    expect(granted(wanted, most).token === undefined).toBe(result === 1);
  });

  it.each([
    [true, false],
    [false, true],
    [false, false],
  ])('are one without a commit (asked for: %s, offered: %s)', (asked, offered) => {
    const offer = { ...OFFER, commit: asked, channels: 4 };
    const answer = answerCapabilities(requestCapabilities(offer), {
      ...OFFER,
      commit: offered,
      channels: 4,
    });
    expect(answer.agreed.channels).toBe(1);
    expect(answer.agreed.token).toBeUndefined();
    expect(acceptCapabilities(answer.reply, offer)).toEqual(answer.agreed);
  });

  it('have another token each time', () => {
    const tokens = Array.from({ length: 100 }, () => granted(2, 2).token);
    expect(new Set(tokens).size).toBe(100);
  });

  it('are one with a version 1 destination, which says nothing of them', () => {
    const qemu = new Builder().u32(1).u32(0).bytes();
    expect(acceptCapabilities(qemu, { ...OFFER, channels: 4 }).channels).toBe(1);
  });

  it('that nobody asked for are ignored', () => {
    const reply = tail(0xc0, Buffer.concat([channels(4), rail(5n, 0)]));
    expect(acceptCapabilities(reply, OFFER)).toMatchObject({ channels: 1 });
  });

  it.each([
    ['more than were asked for', tail(0xc0, Buffer.concat([channels(5), rail(5n, 0)]))],
    ['several without a token', tail(0x40, channels(4))],
    ['a token for another place', tail(0xc0, Buffer.concat([channels(4), rail(5n, 1)]))],
    ['none', tail(0xc0, Buffer.concat([channels(0), rail(5n, 0)]))],
  ])('are refused when the destination grants %s', (_, reply) => {
    failure(() => acceptCapabilities(reply, { ...OFFER, channels: 4 }), 'PROTOCOL_ERROR');
  });

  it('none are wanted by nobody', () => {
    failure(() => answerCapabilities(tail(0x40, channels(0)), OFFER), 'PROTOCOL_ERROR');
  });
});

describe('a rail', () => {
  const u64 = fc.bigInt(0n, (1n << 64n) - 1n);

  it('asks with its token and index, and is answered with the same', () => {
    fc.assert(
      fc.property(u64, fc.integer({ min: 1, max: 0xffff }), (token, index) => {
        const request = requestRail({ token, index });
        expect(request).toHaveLength(42);
        expect(railOf(request)).toEqual({ token, index });
        acceptRail(answerRail({ token, index }), { token, index });
      }),
    );
  });

  it('is not what a source asks to be', () => {
    expect(railOf(requestCapabilities({ ...OFFER, channels: 4, migrationId: randomUUID() }))).toBeUndefined();
    expect(railOf(new Builder().u32(1).u32(0).bytes())).toBeUndefined();
  });

  it.each([
    ['another token', { token: 6n, index: 1 }],
    ['another index', { token: 5n, index: 2 }],
  ])('does not take an answer with %s', (_, other) => {
    failure(() => acceptRail(answerRail(other), { token: 5n, index: 1 }), 'PROTOCOL_ERROR');
  });

  it('does not take a QEMU’s answer', () => {
    failure(() => acceptRail(new Builder().u32(1).u32(0).bytes(), { token: 5n, index: 1 }), 'PROTOCOL_ERROR');
  });
});

describe('hostile tails', () => {
  const FIELDS: [string, number, Uint8Array][] = [
    ['an id', 0x20, id],
    ['channels', 0x40, channels(2)],
    ['a rail', 0x80, rail(1n, 1)],
    ['all', 0xe0, Buffer.concat([id, channels(2), rail(1n, 1)])],
  ];

  it.each(FIELDS)('that say %s and end too early are refused', (_, flags, fields) => {
    for (let length = 0; length < fields.length; length++)
      failure(() => decodeCapabilities(tail(flags, fields.subarray(0, length))), 'PROTOCOL_ERROR');
  });

  it.each(FIELDS)('that say %s and a length beyond their bytes are refused', (_, flags, fields) => {
    for (const more of [1, 16, 0xffff - 24 - fields.length])
      failure(() => decodeCapabilities(tail(flags, fields, 24 + fields.length + more)), 'PROTOCOL_ERROR');
  });

  it.each(FIELDS)('that say %s may have more after them, of a newer release', (_, flags, fields) => {
    const newer = tail(flags | 0x100, Buffer.concat([fields, Buffer.alloc(7, 9)]));
    expect(decodeCapabilities(newer).extension).toMatchObject({ checked: true });
  });

  it('damaged in any one bit are refused', () => {
    const request = requestCapabilities({ ...OFFER, migrationId: ID, channels: 4 });
    for (let bit = 8 * 8; bit < request.length * 8; bit++) {
      const damaged = request.slice();
      damaged[bit >> 3] = (damaged[bit >> 3] as number) ^ (1 << (bit & 7));
      failure(() => answerCapabilities(damaged, OFFER), 'PROTOCOL_ERROR');
    }
  });

  it('of any flags and bytes only ever bring a MigrationError', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 0, max: 0xffff_ffff }),
        fc.uint8Array({ maxLength: 40 }),
        (flags, fields) => {
          orMigrationError(() => answerCapabilities(tail(flags, fields), { ...OFFER, channels: 16 }));
        },
      ),
    );
  });
});
