import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type ControlMessage, decodeControl, encodeControl } from '../../lib/protocol/control.ts';
import { Builder, control, hex } from './builder.ts';
import { failure, orMigrationError } from './errors.ts';
import { sends, TRACES } from './traces.ts';

const NOTHING = new Uint8Array(0);

describe.each(TRACES)('captured migration %s', (name) => {
  it('decodes every message and encodes it back to the same bytes', () => {
    const messages = sends(name);
    expect(messages.length).toBeGreaterThan(1);
    for (const { type, bytes } of messages) {
      const decoded = decodeControl(bytes);
      expect(decoded.type).toBe(type);
      expect(hex(encodeControl(decoded))).toBe(hex(bytes));
    }
  });
});

describe('decodeControl of captured messages', () => {
  const first = (type: string, from: 'dynamic' | 'pin-all' = 'dynamic') => {
    const found = sends(from).find((send) => send.type === type);
    if (!found) throw new Error(`no ${type}`);
    return decodeControl(found.bytes);
  };

  it('reads a COMPRESS', () => {
    expect(first('COMPRESS')).toEqual({
      type: 'COMPRESS',
      value: 0,
      blockIndex: 0,
      offset: 0n,
      length: 0x100000n,
    });
  });

  it('reads a REGISTER_REQUEST and its result', () => {
    expect(first('REGISTER_REQUEST')).toEqual({
      type: 'REGISTER_REQUEST',
      commands: [{ key: 0x200000n, blockIndex: 0, chunks: 0n }],
    });
    expect(first('REGISTER_RESULT')).toEqual({
      type: 'REGISTER_RESULT',
      results: [{ rkey: 0x417e2400, hostAddress: 0x7f30c5200000n }],
    });
  });

  it('reads all destination blocks of a RAM_BLOCKS_RESULT that says 1', () => {
    const message = first('RAM_BLOCKS_RESULT', 'pin-all');
    if (message.type !== 'RAM_BLOCKS_RESULT') throw new Error(message.type);
    expect(message.blocks).toHaveLength(6);
    expect(message.blocks[0]).toEqual({
      hostAddress: 0x7f6791e00000n,
      offset: 0n,
      length: 0x2000000n,
      rkey: 0xe83ae200,
    });
  });
});

const command = (key: bigint, block: number, padding: number, chunks: bigint) =>
  new Builder().u64(key).u32(block).u32(padding).u64(chunks);

describe('encodeControl', () => {
  it.each<[string, ControlMessage, Uint8Array]>([
    ['ERROR', { type: 'ERROR' }, control(1, 1, NOTHING)],
    ['READY', { type: 'READY' }, control(2, 1, NOTHING)],
    ['QEMU_FILE', { type: 'QEMU_FILE', bytes: Uint8Array.of(7, 8) }, control(3, 1, Uint8Array.of(7, 8))],
    ['RAM_BLOCKS_REQUEST', { type: 'RAM_BLOCKS_REQUEST' }, control(4, 1, NOTHING)],
    [
      'RAM_BLOCKS_RESULT',
      {
        type: 'RAM_BLOCKS_RESULT',
        blocks: [
          { hostAddress: 1n, offset: 2n, length: 3n, rkey: 4 },
          { hostAddress: 5n, offset: 6n, length: 7n, rkey: 8, padding: 9 },
        ],
      },
      control(
        5,
        1,
        new Builder().u64(1n).u64(2n).u64(3n).u32(4).u32(0).u64(5n).u64(6n).u64(7n).u32(8).u32(9).bytes(),
      ),
    ],
    [
      'COMPRESS',
      { type: 'COMPRESS', value: 1, blockIndex: 2, offset: 1n << 40n, length: 4n },
      control(
        6,
        1,
        new Builder()
          .u32(1)
          .u32(2)
          .u64(1n << 40n)
          .u64(4n)
          .bytes(),
      ),
    ],
    [
      'REGISTER_REQUEST',
      {
        type: 'REGISTER_REQUEST',
        commands: [
          { key: 1n, blockIndex: 2, chunks: 3n },
          { key: 4n, blockIndex: 5, chunks: 6n, padding: 7 },
        ],
      },
      control(
        7,
        2,
        command(1n, 2, 0, 3n)
          .raw(command(4n, 5, 7, 6n).bytes())
          .bytes(),
      ),
    ],
    [
      'REGISTER_RESULT',
      { type: 'REGISTER_RESULT', results: [{ rkey: 0xffffffff, hostAddress: 0xffff_ffff_ffff_ffffn }] },
      control(8, 1, new Builder().u32(0xffffffff).u32(0).u64(0xffff_ffff_ffff_ffffn).bytes()),
    ],
    ['REGISTER_FINISHED', { type: 'REGISTER_FINISHED' }, control(9, 1, NOTHING)],
    [
      'UNREGISTER_REQUEST',
      { type: 'UNREGISTER_REQUEST', commands: [{ key: 1n, blockIndex: 2, chunks: 0n }] },
      control(10, 1, command(1n, 2, 0, 0n).bytes()),
    ],
    ['UNREGISTER_FINISHED', { type: 'UNREGISTER_FINISHED' }, control(11, 1, NOTHING)],
    [
      'PROGRESS',
      { type: 'PROGRESS', round: 2, pending: 3, content: 4, zero: 5, foundContent: 6, foundZero: 7 },
      control(0x103, 1, new Builder().u32(2).u32(0).u64(3n).u64(4n).u64(5n).u64(6n).u64(7n).bytes()),
    ],
    ['COMMITTED', { type: 'COMMITTED', status: 'OK' }, control(0x101, 1, new Builder().u32(0).bytes())],
  ])('writes %s as the specification says', (_name, message, expected) => {
    expect(hex(encodeControl(message))).toBe(hex(expected));
    expect(decodeControl(expected)).toEqual(message);
  });

  it('refuses what the protocol cannot carry', () => {
    const commands = Array.from({ length: 4097 }, () => ({ key: 0n, blockIndex: 0, chunks: 0n }));
    failure(() => encodeControl({ type: 'REGISTER_REQUEST', commands }), 'INVALID_ARGUMENT');
    failure(() => encodeControl({ type: 'REGISTER_REQUEST', commands: [] }), 'INVALID_ARGUMENT');
    failure(() => encodeControl({ type: 'QEMU_FILE', bytes: NOTHING }), 'INVALID_ARGUMENT');
    const tooLong = new Uint8Array(512 * 1024 - 15);
    failure(() => encodeControl({ type: 'QEMU_FILE', bytes: tooLong }), 'INVALID_ARGUMENT');
    const beyond = { type: 'COMPRESS', value: 0, blockIndex: 0, offset: 1n << 64n, length: 0n } as const;
    failure(() => encodeControl(beyond), 'INVALID_ARGUMENT');
    failure(() => encodeControl({ ...beyond, offset: -1n }), 'INVALID_ARGUMENT');
    failure(() => encodeControl({ ...beyond, offset: 0n, blockIndex: 1.5 }), 'INVALID_ARGUMENT');
  });
});

describe('QUIRKs of QEMU', () => {
  it.each([1, 2, 3, 4, 9, 11])(
    'accepts any repeat on type %i, whose data is no array, and keeps it',
    (type) => {
      const bytes = control(type, 0xdeadbeef, type === 3 ? Uint8Array.of(1) : NOTHING, 0xcafe);
      const message = decodeControl(bytes);
      expect([message.repeat, message.padding]).toEqual([0xdeadbeef, 0xcafe]);
      expect(hex(encodeControl(message))).toBe(hex(bytes));
    },
  );

  it('reads the one result in a REGISTER_RESULT that says three', () => {
    const bytes = control(8, 3, new Builder().u32(1).u32(0).u64(2n).bytes());
    expect(decodeControl(bytes)).toEqual({
      type: 'REGISTER_RESULT',
      repeat: 3,
      results: [{ rkey: 1, hostAddress: 2n }],
    });
    expect(hex(encodeControl(decodeControl(bytes)))).toBe(hex(bytes));
  });
});

describe('decodeControl refuses', () => {
  const one = command(0n, 0, 0, 0n).bytes();
  const two = new Builder().raw(one).raw(one).bytes();
  const result = new Uint8Array(16);
  it.each<[string, Uint8Array]>([
    ['no bytes', NOTHING],
    ['half a header', control(2, 1, NOTHING).subarray(0, 15)],
    ['type NONE', control(0, 1, NOTHING)],
    ['an unknown type', control(12, 1, NOTHING)],
    ['a type between QEMU and ours', control(0xff, 1, NOTHING)],
    ['a length beyond the bytes', control(3, 1, Uint8Array.of(1, 2)).subarray(0, 17)],
    [
      'bytes beyond the length',
      new Builder()
        .raw(control(2, 1, NOTHING))
        .u8(0)
        .bytes(),
    ],
    ['a message of more than 512 KiB', control(3, 1, new Uint8Array(512 * 1024 - 15))],
    ['an empty QEMU_FILE', control(3, 1, NOTHING)],
    ['a READY with data', control(2, 1, Uint8Array.of(0))],
    ['a REGISTER_FINISHED with data', control(9, 1, one)],
    ['a COMPRESS of 23 bytes', control(6, 1, one.subarray(1))],
    ['a COMPRESS of two commands', control(6, 2, two)],
    ['a COMPRESS that says two', control(6, 2, one)],
    ['a REGISTER_REQUEST without commands', control(7, 0, NOTHING)],
    ['a REGISTER_REQUEST of a command and a half', control(7, 1, two.subarray(0, 36))],
    ['a REGISTER_REQUEST that says fewer', control(7, 1, two)],
    ['a REGISTER_REQUEST that says more', control(7, 2, one)],
    ['an UNREGISTER_REQUEST that says none', control(10, 0, one)],
    ['4097 commands', control(7, 4097, new Uint8Array(4097 * 24))],
    ['a RAM_BLOCKS_RESULT without blocks', control(5, 1, NOTHING)],
    ['a RAM_BLOCKS_RESULT that says another number', control(5, 3, new Uint8Array(64))],
    ['a REGISTER_RESULT that says none', control(8, 0, result)],
    ['a REGISTER_RESULT that says 4097 and has one', control(8, 4097, result)],
    ['a REGISTER_RESULT that says three and has two', control(8, 3, new Uint8Array(32))],
    ['a REGISTER_RESULT of 15 bytes', control(8, 1, result.subarray(1))],
  ])('%s', (_name, bytes) => {
    const error = failure(() => decodeControl(bytes, 'setup'), 'PROTOCOL_ERROR');
    expect(error.phase).toBe('setup');
  });

  it('the largest message is accepted', () => {
    const bytes = control(3, 1, new Uint8Array(512 * 1024 - 16));
    expect(decodeControl(bytes).type).toBe('QEMU_FILE');
  });
});

const u32 = fc.integer({ min: 0, max: 0xffff_ffff });
const u64 = fc.bigInt({ min: 0n, max: 0xffff_ffff_ffff_ffffn });
const padding = fc.option(fc.integer({ min: 1, max: 0xffff_ffff }), { nil: undefined });

/** `padding` only where it is not 0, as decoding gives it. */
function compact<T extends { padding?: number | undefined }>(value: T): T {
  if (value.padding === undefined) delete value.padding;
  return value;
}

const commands = fc.array(fc.record({ key: u64, blockIndex: u32, chunks: u64, padding }).map(compact), {
  minLength: 1,
  maxLength: 9,
});
const results = fc.array(fc.record({ rkey: u32, hostAddress: u64, padding }).map(compact), {
  minLength: 1,
  maxLength: 9,
});
const blocks = fc.array(
  fc.record({ hostAddress: u64, offset: u64, length: u64, rkey: u32, padding }).map(compact),
  { minLength: 1, maxLength: 9 },
);
const message = fc.oneof(
  fc.constantFrom('ERROR', 'READY', 'RAM_BLOCKS_REQUEST', 'REGISTER_FINISHED').map((type) => ({ type })),
  fc.record({ type: fc.constant('QEMU_FILE'), bytes: fc.uint8Array({ minLength: 1, maxLength: 99 }) }),
  fc.record({ type: fc.constant('RAM_BLOCKS_RESULT'), blocks }),
  fc.record({ type: fc.constant('COMPRESS'), value: u32, blockIndex: u32, offset: u64, length: u64 }),
  fc.record({ type: fc.constantFrom('REGISTER_REQUEST', 'UNREGISTER_REQUEST'), commands }),
  fc.record({ type: fc.constant('REGISTER_RESULT'), results }),
) as fc.Arbitrary<ControlMessage>;

describe('properties', () => {
  it('every message survives encoding and decoding', () => {
    fc.assert(
      fc.property(message, (sent) => {
        expect(decodeControl(encodeControl(sent))).toEqual(sent);
      }),
    );
  });

  it('every truncation and every extension is refused', () => {
    fc.assert(
      fc.property(message, fc.nat(), (sent, seed) => {
        const bytes = encodeControl(sent);
        failure(() => decodeControl(bytes.subarray(0, seed % bytes.length)), 'PROTOCOL_ERROR');
        failure(
          () =>
            decodeControl(
              new Builder()
                .raw(bytes)
                .u8(seed & 0xff)
                .bytes(),
            ),
          'PROTOCOL_ERROR',
        );
      }),
    );
  });

  it('whatever else is decoded encodes back to the same bytes, or a MigrationError comes', () => {
    const header = fc.record({
      type: fc.integer({ min: 0, max: 13 }),
      repeat: fc.nat(4),
      data: fc.uint8Array({ maxLength: 99 }),
    });
    fc.assert(
      fc.property(header, ({ type, repeat, data }) => {
        const bytes = control(type, repeat, data);
        const decoded = orMigrationError(() => decodeControl(bytes));
        if (decoded) expect(hex(encodeControl(decoded))).toBe(hex(bytes));
      }),
      { numRuns: 2000 },
    );
  });

  it('random bytes only ever bring a MigrationError', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 64 }),
        (bytes) => void orMigrationError(() => decodeControl(bytes)),
      ),
    );
  });
});
