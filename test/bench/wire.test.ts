import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { MOST_BUFFERS, ringOf } from '../../lib/bench/limits.ts';
import { chunkOf } from '../../lib/bench/measure/buffers.ts';
import {
  decodeAnswer,
  decodeRequest,
  encodeAnswer,
  encodeRequest,
  MESSAGE_BYTES,
} from '../../lib/bench/wire/codec.ts';
import {
  decodeHello,
  decodeWelcome,
  encodeHello,
  encodeWelcome,
  VERSION,
} from '../../lib/bench/wire/hello.ts';
import type { Answer, Request } from '../../lib/bench/wire/messages.ts';
import { MigrationError } from '../../lib/errors.ts';

const u64 = fc.bigInt({ min: 0n, max: (1n << 64n) - 1n });
const place = fc.record({
  addr: fc.bigInt({ min: 0n, max: (1n << 64n) - (1n << 32n) }),
  length: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
  rkey: fc.integer({ min: 0, max: 2 ** 32 - 1 }),
});
const request: fc.Arbitrary<Request> = fc.oneof(
  fc.constantFrom('who', 'finish', 'close').map((type) => ({ type }) as Request),
  fc.record({ type: fc.constant('begin' as const), mostMs: fc.integer({ min: 1, max: 3_600_000 }) }),
  fc.record({
    type: fc.constant('open' as const),
    operation: fc.constantFrom('write' as const, 'read' as const, 'send' as const),
    mode: fc.constantFrom('throughput' as const, 'latency' as const),
    messageBytes: fc.integer({ min: 1, max: 16 << 20 }),
    depth: fc.integer({ min: 1, max: 4096 }),
    queuePairs: fc.integer({ min: 1, max: 64 }),
    crc: fc.boolean(),
    place: place.map((one) => ({ ...one, length: Math.max(one.length, MOST_BUFFERS) })),
  }),
  fc.record({
    type: fc.constant('migrate' as const),
    ramBytes: fc.integer({ min: 1, max: 2 ** 24 }).map((mib) => mib * 2 ** 20),
    crc: fc.boolean(),
    channels: fc.integer({ min: 0, max: 16 }),
    mostMs: fc.integer({ min: 1, max: 3_600_000 }),
  }),
);
const words = fc.string({ minLength: 0, maxLength: 60 }).map((text) => text.replace(/[^ -~]/g, '').trim());
const count = fc.integer({ min: 0, max: Number.MAX_SAFE_INTEGER });
const answer: fc.Arbitrary<Answer> = fc.oneof(
  fc.constantFrom('begun', 'closed').map((type) => ({ type }) as Answer),
  fc.record({ type: fc.constant('opened' as const), place }),
  fc.record({ type: fc.constant('listening' as const), port: fc.integer({ min: 1, max: 65_535 }) }),
  fc.record({
    type: fc.constant('finished' as const),
    userUs: count,
    systemUs: count,
    loopPermille: fc.integer({ min: 0, max: 1000 }),
  }),
  fc.record({
    type: fc.constant('machine' as const),
    cpus: fc.integer({ min: 1, max: 65_535 }),
    model: words,
    kernel: words,
    node: words,
    tool: words,
  }),
);

/** A valid `open`, whose fields are then spoilt. */
const open = (): Buffer =>
  Buffer.from(
    encodeRequest({
      type: 'open',
      operation: 'write',
      mode: 'throughput',
      messageBytes: 4096,
      depth: 64,
      queuePairs: 1,
      crc: false,
      place: { addr: 4096n, length: 64 * 4096, rkey: 7 },
    }),
  );

/** Where its place begins. */
const PLACE = 16;

const refuses = (bytes: Uint8Array): void =>
  expect(() => decodeRequest(bytes)).toThrow(expect.objectContaining({ code: 'PROTOCOL_ERROR' }));

describe('messages of the benchmark', () => {
  it('come back as they were, and fit', () => {
    fc.assert(
      fc.property(request, (message) => {
        const bytes = encodeRequest(message);
        expect(bytes.length).toBeLessThanOrEqual(MESSAGE_BYTES);
        expect(decodeRequest(bytes)).toEqual(message);
      }),
    );
    fc.assert(
      fc.property(answer, (message) => {
        const bytes = encodeAnswer(message);
        expect(bytes.length).toBeLessThanOrEqual(MESSAGE_BYTES);
        expect(decodeAnswer(bytes)).toEqual(message);
      }),
    );
  });

  it('are refused when they are short by any byte, or too long', () => {
    fc.assert(
      fc.property(request, fc.nat(), (message, cut) => {
        const bytes = encodeRequest(message);
        refuses(bytes.subarray(0, cut % bytes.length));
        refuses(Buffer.concat([bytes, Buffer.alloc(1)]));
      }),
    );
  });

  it('never throw anything else, whatever comes', () => {
    for (const decode of [decodeRequest, decodeAnswer]) {
      fc.assert(
        fc.property(
          fc.constantFrom(0, 1, 2, 3, 4, 5, 6, 129, 130, 131, 132, 133, 134, 255),
          fc.uint8Array({ maxLength: 300 }),
          (type, rest) => {
            try {
              decode(Buffer.concat([Buffer.of(0, type), rest]));
            } catch (error) {
              expect(error).toBeInstanceOf(MigrationError);
              expect((error as MigrationError).code).toBe('PROTOCOL_ERROR');
            }
          },
        ),
      );
    }
  });

  it.each([
    ['an unknown operation', 2, 3, 'u16'],
    ['an unknown mode', 4, 2, 'u16'],
    ['a message of no bytes', 6, 0, 'u32'],
    ['a message of more than 64 MiB', 6, (64 << 20) + 1, 'u32'],
    ['no depth', 10, 0, 'u16'],
    ['a depth of 4097', 10, 4097, 'u16'],
    ['no queue pair', 12, 0, 'u16'],
    ['65 queue pairs', 12, 65, 'u16'],
    ['a flag of 2', 14, 2, 'u16'],
  ] as const)('refuses %s', (_name, at, value, type) => {
    const bytes = open();
    expect(decodeRequest(bytes)).toMatchObject({ type: 'open' });
    if (type === 'u16') bytes.writeUInt16BE(value, at);
    else bytes.writeUInt32BE(value, at);
    refuses(bytes);
  });

  it('refuses more buffers than an end gives, though each field is within its bounds', () => {
    const bytes = open();
    bytes.writeUInt32BE(64 << 20, 6);
    bytes.writeUInt32BE(2 ** 31, PLACE + 8);
    bytes.writeUInt16BE(16, 12);
    expect(decodeRequest(bytes)).toMatchObject({ queuePairs: 16 });
    bytes.writeUInt16BE(17, 12);
    refuses(bytes);
  });

  it('refuses a place that is smaller than what is used of it, or ends after the last address', () => {
    const bytes = open();
    bytes.writeUInt32BE(64 * 4096 - 1, PLACE + 8);
    refuses(bytes);
    bytes.writeUInt32BE(64 * 4096, PLACE + 8);
    bytes.writeBigUInt64BE((1n << 64n) - 64n * 4096n, PLACE);
    expect(decodeRequest(bytes)).toMatchObject({ type: 'open' });
    bytes.writeBigUInt64BE((1n << 64n) - 64n * 4096n + 1n, PLACE);
    refuses(bytes);
  });

  it.each([
    ['a migration of no RAM', 2, 0n, 'u64'],
    ['a migration of more than 16 TiB', 2, 2n ** 44n + 2n ** 20n, 'u64'],
    ['RAM that is no whole number of MiB', 2, 2n ** 20n + 4096n, 'u64'],
    ['RAM that no number holds', 2, 2n ** 64n - 2n ** 20n, 'u64'],
    ['17 channels', 12, 17n, 'u16'],
    ['a migration of no time', 14, 0n, 'u32'],
    ['a migration of more than an hour', 14, 3_600_001n, 'u32'],
  ] as const)('refuses %s', (_name, at, value, type) => {
    const asked = {
      type: 'migrate',
      ramBytes: 2 ** 44,
      crc: false,
      channels: 16,
      mostMs: 3_600_000,
    } as const;
    const bytes = Buffer.from(encodeRequest(asked));
    expect(decodeRequest(bytes)).toEqual(asked);
    if (type === 'u64') bytes.writeBigUInt64BE(value, at);
    else if (type === 'u32') bytes.writeUInt32BE(Number(value), at);
    else bytes.writeUInt16BE(Number(value), at);
    refuses(bytes);
  });

  it.each([0, 3_600_001, 2 ** 32 - 1])('refuses a round of %i ms', (mostMs) => {
    refuses(encodeRequest({ type: 'begin', mostMs }));
  });

  it('bounds the buffers of a queue pair, whatever the depth', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 64 << 20 }),
        fc.integer({ min: 1, max: 4096 }),
        (bytes, depth) => {
          const ring = ringOf(bytes, depth);
          expect(ring.slot).toBeGreaterThanOrEqual(bytes);
          expect(ring.bytes).toBeLessThanOrEqual(Math.max(16 << 20, bytes + 8));
          expect(ring.bytes).toBe(ring.slot * ring.slots);
        },
      ),
    );
  });

  it('shows words of the other end without what controls a terminal', () => {
    const machine = {
      type: 'machine',
      cpus: 2,
      model: 'a\u001b[2Jb\nc\u202e',
      kernel: 'é'.repeat(80),
      node: '',
      tool: '',
    } as const;
    const read = decodeAnswer(encodeAnswer(machine));
    expect(read).toMatchObject({ model: 'a [2Jb c', kernel: 'é'.repeat(50) });
  });

  it('carry why something failed', () => {
    const reason = new MigrationError('OUT_OF_MEMORY', 'verbs', 'no memory');
    expect(decodeAnswer(encodeAnswer({ type: 'failed', reason }))).toEqual({
      type: 'failed',
      reason: { code: 'OUT_OF_MEMORY', phase: 'verbs', message: 'no memory' },
    });
  });
});

it('all of a depth is under way, in whole chunks', () => {
  for (let depth = 1; depth <= 4096; depth++) {
    const chunk = chunkOf(depth);
    expect(depth % chunk).toBe(0);
    expect(chunk).toBeLessThanOrEqual(256);
    if (depth >= 4) expect(depth / chunk).toBeGreaterThanOrEqual(4);
  }
  expect([1, 3, 10, 64, 1500, 4096].map(chunkOf)).toEqual([1, 1, 2, 16, 250, 256]);
});

describe('what comes along with a connection', () => {
  it('comes back as it was, also filled up with zeros', () => {
    fc.assert(
      fc.property(
        u64,
        fc.nat(),
        fc.constantFrom('control' as const, 'data' as const),
        (token, index, kind) => {
          const hello = { version: VERSION, kind, index, token };
          expect(decodeHello(Buffer.concat([encodeHello(hello), Buffer.alloc(36)]))).toEqual(hello);
          expect(encodeHello(hello).length).toBeLessThanOrEqual(56);
        },
      ),
    );
    const welcome = { version: VERSION, status: 'busy', token: 5n } as const;
    expect(decodeWelcome(encodeWelcome(welcome))).toEqual(welcome);
  });

  it('of another version is only that, whatever else it has', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 50 }), fc.constantFrom(0, 2, 65_535), (rest, version) => {
        const ours = Buffer.from(encodeHello({ version: VERSION, kind: 'data', index: 3, token: 4n }));
        ours.writeUInt16BE(version, 4);
        const bytes = Buffer.concat([ours.subarray(0, 6), rest]);
        expect(decodeHello(bytes)).toEqual({ version, kind: 'unknown' });
        expect(decodeWelcome(bytes)).toEqual({ version, status: 'version', token: 0n });
      }),
    );
  });

  it('is no hello of a kind that is not known', () => {
    const bytes = Buffer.from(encodeHello({ version: VERSION, kind: 'data', index: 0, token: 0n }));
    bytes.writeUInt16BE(3, 6);
    expect(decodeHello(bytes)).toBeUndefined();
  });

  it('is no hello, and no more than that, when anything else comes', () => {
    fc.assert(fc.property(fc.uint8Array({ maxLength: 80 }), (bytes) => decodeHello(bytes) === undefined));
    expect(() => decodeWelcome(Buffer.alloc(20))).toThrow('is no rdma-migrate bench');
  });
});
