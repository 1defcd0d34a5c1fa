import { createHash } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Commit, compareCommits, SentDigest } from '../../lib/protocol/commit.ts';
import { type ControlMessage, decodeControl, encodeControl } from '../../lib/protocol/control.ts';
import { Builder, control, hex } from './builder.ts';
import { failure, orMigrationError } from './errors.ts';
import { sends } from './traces.ts';

const digest = new Uint8Array(32).fill(0xab);
const ramDigest = new Uint8Array(32).fill(0xcd);
const commit: Commit = { streamBytes: 1n, ramBytes: 2n, zeroBytes: 3n, rounds: 4, sentDigest: digest };

function fields(flags: number): Builder {
  return new Builder().u64(1n).u64(2n).u64(3n).u32(4).u32(flags).raw(digest);
}

describe('COMMIT', () => {
  it('is written as documented, type 0x100', () => {
    const bytes = encodeControl({ type: 'COMMIT', ...commit });
    expect(hex(bytes)).toBe(hex(control(0x100, 1, fields(0).bytes())));
    expect(decodeControl(bytes)).toEqual({ type: 'COMMIT', ...commit });
  });

  it('carries a RAM digest with flag 1', () => {
    const bytes = encodeControl({ type: 'COMMIT', ...commit, ramDigest });
    expect(hex(bytes)).toBe(hex(control(0x100, 1, fields(1).raw(ramDigest).bytes())));
    expect(decodeControl(bytes)).toEqual({ type: 'COMMIT', ...commit, ramDigest });
  });

  it.each<[string, Uint8Array]>([
    ['an unknown flag', fields(2).raw(ramDigest).bytes()],
    ['the highest flag', fields(0x8000_0000).raw(ramDigest).bytes()],
    ['a missing RAM digest', fields(1).bytes()],
    ['a RAM digest without its flag', fields(0).raw(ramDigest).bytes()],
    ['half a digest', fields(0).bytes().subarray(0, 50)],
  ])('with %s is refused', (_name, data) => {
    const error = failure(() => decodeControl(control(0x100, 1, data)), 'PROTOCOL_ERROR');
    expect(error.phase).toBe('commit');
  });

  it('is not made with a digest of another length', () => {
    const short = { ...commit, sentDigest: digest.subarray(1) };
    failure(() => encodeControl({ type: 'COMMIT', ...short }), 'INVALID_ARGUMENT');
  });

  it('random data only ever brings a MigrationError', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 120 }), fc.constantFrom(0x100, 0x101), (data, type) => {
        const bytes = control(type, 1, data);
        const decoded = orMigrationError(() => decodeControl(bytes));
        if (decoded) expect(hex(encodeControl(decoded))).toBe(hex(bytes));
      }),
    );
  });
});

describe('COMMITTED', () => {
  it.each([
    ['OK', 0],
    ['COUNT_MISMATCH', 1],
    ['SENT_DIGEST_MISMATCH', 2],
    ['RAM_DIGEST_MISMATCH', 3],
  ] as const)('carries %s as %i', (status, value) => {
    const bytes = encodeControl({ type: 'COMMITTED', status });
    expect(hex(bytes)).toBe(hex(control(0x101, 1, new Builder().u32(value).bytes())));
    expect(decodeControl(bytes)).toEqual({ type: 'COMMITTED', status });
  });

  it('with an unknown status or more bytes is refused', () => {
    failure(() => decodeControl(control(0x101, 1, new Builder().u32(4).bytes())), 'PROTOCOL_ERROR');
    failure(() => decodeControl(control(0x101, 1, new Uint8Array(5))), 'PROTOCOL_ERROR');
  });
});

describe('compareCommits', () => {
  const other = new Uint8Array(32);
  it.each<[string, Commit, Commit, string]>([
    ['equal', commit, { ...commit, sentDigest: digest.slice() }, 'OK'],
    ['stream bytes', commit, { ...commit, streamBytes: 0n }, 'COUNT_MISMATCH'],
    ['RAM bytes', commit, { ...commit, ramBytes: 0n }, 'COUNT_MISMATCH'],
    ['zero bytes', commit, { ...commit, zeroBytes: 0n }, 'COUNT_MISMATCH'],
    ['rounds', commit, { ...commit, rounds: 0 }, 'COUNT_MISMATCH'],
    ['digest', commit, { ...commit, sentDigest: other }, 'SENT_DIGEST_MISMATCH'],
    ['RAM digest', { ...commit, ramDigest }, { ...commit, ramDigest: other }, 'RAM_DIGEST_MISMATCH'],
    ['a RAM digest at one end only', { ...commit, ramDigest }, commit, 'OK'],
  ])('%s', (_name, sent, arrived, status) => {
    expect(compareCommits(sent, arrived)).toBe(status);
  });
});

describe('SentDigest', () => {
  function account(messages: readonly ControlMessage[]): Commit {
    const sent = new SentDigest();
    for (const message of messages) sent.add(encodeControl(message), message);
    return sent.commit(0n);
  }

  it('counts a captured migration and digests every byte its source sent', () => {
    const source = sends('dynamic').filter(({ from }) => from === 'source');
    const sent = new SentDigest();
    for (const { bytes } of source) sent.add(bytes, decodeControl(bytes));
    const stream = source.filter(({ type }) => type === 'QEMU_FILE');
    expect(sent.commit(77n)).toEqual({
      streamBytes: BigInt(stream.reduce((sum, { data }) => sum + data.length, 0)),
      ramBytes: 77n,
      zeroBytes: source
        .filter(({ type }) => type === 'COMPRESS')
        .reduce((sum, { data }) => sum + Buffer.from(data).readBigUInt64BE(16), 0n),
      rounds: source.filter(({ type }) => type === 'REGISTER_FINISHED').length,
      sentDigest: new Uint8Array(
        createHash('sha256')
          .update(Buffer.concat(source.map(({ bytes }) => bytes)))
          .digest(),
      ),
    });
  });

  it('differs when a message is lost, changed or out of order', () => {
    const compress = { type: 'COMPRESS', value: 0, blockIndex: 0, offset: 0n, length: 4096n } as const;
    const file = { type: 'QEMU_FILE', bytes: Uint8Array.of(1, 2) } as const;
    const all = hex(account([compress, file]).sentDigest);
    expect(hex(account([compress, file]).sentDigest)).toBe(all);
    for (const others of [[file, compress], [compress], [{ ...compress, blockIndex: 1 }, file]]) {
      expect(hex(account(others).sentDigest)).not.toBe(all);
    }
    const split = [Uint8Array.of(1), Uint8Array.of(2)].map(
      (bytes) => ({ type: 'QEMU_FILE', bytes }) as const,
    );
    expect(hex(account([compress, ...split]).sentDigest)).not.toBe(all);
  });

  it('may be asked in between and goes on', () => {
    const file = { type: 'QEMU_FILE', bytes: Uint8Array.of(1) } as const;
    const sent = new SentDigest();
    sent.add(encodeControl(file), file);
    sent.commit(0n);
    sent.add(encodeControl(file), file);
    expect(sent.commit(0n)).toEqual(account([file, file]));
  });
});
