import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { ERROR_CODES, MigrationError, PHASES } from '../../lib/errors.ts';
import { decodeControl, encodeControl } from '../../lib/protocol/control.ts';
import { decodeReason, encodeReason } from '../../lib/protocol/reason.ts';

/** The data as the comment of reason.ts has it, apart from the product. */
function written(code: string, phase: string, message: Uint8Array | string): Buffer {
  const short = (text: string) => Buffer.concat([Buffer.of(text.length), Buffer.from(text, 'latin1')]);
  return Buffer.concat([short(code), short(phase), Buffer.from(message as string)]);
}

describe('a reason', () => {
  it('crosses with every code and phase', () => {
    for (const code of ERROR_CODES)
      for (const phase of PHASES) {
        const data = encodeReason(new MigrationError(code, phase, 'der Datenträger ist voll'));
        expect(data).toEqual(written(code, phase, 'der Datenträger ist voll'));
        expect(decodeReason(data)).toEqual({ code, phase, message: 'der Datenträger ist voll' });
      }
  });

  it('is the data of an ERROR, which QEMU sends without', () => {
    const reason = encodeReason(new MigrationError('DISK_FULL', 'ram', 'no room'));
    const bytes = encodeControl({ type: 'ERROR', reason });
    expect(decodeControl(bytes)).toEqual({ type: 'ERROR', reason: new Uint8Array(reason) });
    expect(encodeControl({ type: 'ERROR' })).toHaveLength(16);
    expect(decodeControl(encodeControl({ type: 'ERROR' }))).toEqual({ type: 'ERROR' });
  });

  it('is cut at 1024 bytes, between two characters', () => {
    const data = encodeReason(new MigrationError('IO_ERROR', 'ram', 'ä€𝄞'.repeat(1000)));
    expect(data.length).toBeLessThanOrEqual(2 + 'IO_ERROR'.length + 'ram'.length + 1024);
    const { message = '' } = decodeReason(data) ?? {};
    expect('ä€𝄞'.repeat(1000).startsWith(message)).toBe(true);
    expect(Buffer.byteLength(message)).toBeGreaterThan(1024 - 4);
  });

  it('of a hostile peer has no word that a terminal obeys, and no code that is none', () => {
    const text = 'a\u001b[2J\u0000\nb\r\u202Ec\u2066d\u200B\u2028e\u009b31m';
    expect(decodeReason(written('<b>', 'ram ', text))).toEqual({ message: 'a [2J b c d e 31m' });
    expect(decodeReason(written('__proto__', 'toString', ''))).toEqual({ message: '' });
    expect(decodeReason(written('DISK_FULL', 'ram', Buffer.of(0x61, 0xff, 0xc3)))).toEqual({
      code: 'DISK_FULL',
      phase: 'ram',
      message: 'a��',
    });
  });

  it.each([
    ['nothing', Buffer.alloc(0)],
    ['a code that is cut', Buffer.from([9, 65])],
    ['no phase', Buffer.from([1, 65])],
    ['64 KiB', written('DISK_FULL', 'ram', 'x'.repeat(65_536))],
  ])('that is %s is none', (_name, data) => expect(decodeReason(data)).toBeUndefined());

  it('of random bytes is none, or printable and short', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 3000 }), (data) => {
        const { message = '' } = decodeReason(data) ?? {};
        expect(message).not.toMatch(/[\p{C}\p{Zl}\p{Zp}]/u);
        expect(message.length).toBeLessThanOrEqual(2000);
      }),
    );
  });
});
