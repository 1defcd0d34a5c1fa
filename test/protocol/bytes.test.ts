import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ByteQueue } from '../../lib/protocol/byte-queue.ts';
import { Cursor } from '../../lib/protocol/cursor.ts';
import { RollingWindow } from '../../lib/protocol/rolling-window.ts';
import { Writer } from '../../lib/protocol/writer.ts';
import { Builder, hex } from './builder.ts';
import { failure } from './errors.ts';

describe('Writer and Cursor', () => {
  const BYTES = new Builder()
    .u8(1)
    .u16(2)
    .u32(0xffff_ffff)
    .u64(1n << 63n)
    .hex('aabb')
    .bytes();

  it('write big-endian fields, growing as needed, and read them back', () => {
    const written = new Writer(1)
      .u8(1)
      .u16(2)
      .u32(0xffff_ffff)
      .u64(1n << 63n)
      .bytes(Uint8Array.of(0xaa, 0xbb));
    expect(hex(written.finish())).toBe(hex(BYTES));
    const cursor = new Cursor(BYTES, 'Test', 'ram');
    expect(hex(cursor.bytes(1))).toBe('01');
    expect([cursor.u16(), cursor.u32(), cursor.u64()]).toEqual([2, 0xffff_ffff, 1n << 63n]);
    expect(cursor.remaining).toBe(2);
  });

  it('refuse a read past the end, with numbers', () => {
    const cursor = new Cursor(Uint8Array.of(1, 2, 3), 'Test', 'setup');
    cursor.u16();
    for (const read of [() => cursor.u16(), () => cursor.u32(), () => cursor.u64(), () => cursor.bytes(2)]) {
      expect(failure(read, 'PROTOCOL_ERROR').details).toMatchObject({ received: 3 });
    }
    expect(hex(cursor.bytes(1))).toBe('03');
  });

  it('refuse values that a field cannot hold', () => {
    for (const value of [-1, 256, 0.5, Number.NaN]) {
      failure(() => new Writer().u8(value), 'INVALID_ARGUMENT');
    }
    failure(() => new Writer().u16(0x1_0000), 'INVALID_ARGUMENT');
    failure(() => new Writer().u32(2 ** 32), 'INVALID_ARGUMENT');
    failure(() => new Writer().u64(1n << 64n), 'INVALID_ARGUMENT');
    failure(() => new Writer().u64(-1n), 'INVALID_ARGUMENT');
  });

  it('read views of a larger buffer', () => {
    const view = new Uint8Array(new Builder().u64(0n).u32(7).bytes().buffer, 8, 4);
    expect(new Cursor(view, 'Test', 'ram').u32()).toBe(7);
  });
});

describe('ByteQueue', () => {
  it('gives back what was pushed, in order, for any sizes', () => {
    const sizes = fc.array(fc.tuple(fc.nat(700), fc.nat(700)), { maxLength: 40 });
    fc.assert(
      fc.property(sizes, (steps) => {
        const queue = new ByteQueue();
        let [next, expected] = [0, 0];
        for (const [pushed, taken] of steps) {
          queue.push(Uint8Array.from({ length: pushed }, () => next++ & 0xff));
          const bytes = queue.take(Math.min(taken, queue.length));
          for (const byte of bytes) if (byte !== (expected++ & 0xff)) throw new Error(`at ${expected}`);
        }
        expect(queue.length).toBe(next - expected);
        if (queue.length > 0) expect(queue.first()).toBe(expected & 0xff);
      }),
    );
  });
});

describe('RollingWindow', () => {
  it('keeps the last bytes, and hands every full block out once', () => {
    const block = 65_536;
    const blocks: Uint8Array[] = [];
    const window = new RollingWindow(2 * block, (full) => blocks.push(full.slice()));
    const all = Uint8Array.from({ length: 4 * block + 100 }, (_, i) => (i * 7) & 0x7f);
    all[block * 3 + 5] = 0xff;
    for (let at = 0; at < all.length; at += 1000) window.push(all.subarray(at, at + 1000));
    expect(Buffer.concat(blocks).equals(all.subarray(0, 4 * block))).toBe(true);
    expect([window.start, window.end]).toEqual([2 * block, all.length]);
    for (const start of [2 * block, 3 * block + 7, 4 * block, all.length]) {
      expect(Buffer.compare(window.from(start), all.subarray(start))).toBe(0);
    }
    expect(window.at(3 * block + 5)).toBe(0xff);
    expect(window.at(all.length - 1)).toBe(all.at(-1));
  });
});
