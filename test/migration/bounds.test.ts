import { describe, expect, it } from 'vitest';
import {
  checkDigests,
  checkRange,
  checkRegister,
  checkUnregister,
  layOut,
} from '../../lib/migration/destination/bounds.ts';
import { CHUNK_BYTES } from '../../lib/ram/spans.ts';

const PAGE = 4096n;
const U64 = (1n << 64n) - 1n;
const blocks = layOut([
  { name: 'pc.ram', length: 8n * CHUNK_BYTES },
  { name: 'rom', length: 3n * PAGE },
  { name: 'vga', length: 2n * CHUNK_BYTES + PAGE },
]);
const [ram, rom, vga] = blocks as [(typeof blocks)[0], (typeof blocks)[0], (typeof blocks)[0]];
const protocolError = expect.objectContaining({ code: 'PROTOCOL_ERROR', phase: 'ram' });

describe('layOut', () => {
  it('leaves no overlap between blocks', () => {
    expect(rom.offset).toBeGreaterThanOrEqual(ram.offset + ram.length);
    expect(vga.offset).toBeGreaterThanOrEqual(rom.offset + rom.length);
  });
});

describe('checkRange', () => {
  it('accepts a range up to the very end of its block', () => {
    const found = checkRange(
      blocks,
      { blockIndex: 1, offset: rom.offset + PAGE, length: 2n * PAGE },
      'COMPRESS',
    );
    expect(found).toEqual({ index: 1, span: { offset: PAGE, length: 2n * PAGE } });
  });

  it.each([
    ['a block that is not there', { blockIndex: 3, offset: 0n, length: PAGE }],
    ['an address before the block', { blockIndex: 1, offset: rom.offset - 1n, length: PAGE }],
    ['an address behind the block', { blockIndex: 0, offset: ram.offset + ram.length, length: 1n }],
    ['a length of zero', { blockIndex: 0, offset: 0n, length: 0n }],
    ['one byte past the end', { blockIndex: 1, offset: rom.offset + PAGE, length: 2n * PAGE + 1n }],
    ['an end that wraps', { blockIndex: 0, offset: PAGE, length: U64 }],
    ['an address that wraps', { blockIndex: 0, offset: U64, length: PAGE }],
  ])('rejects %s', (_, command) => {
    expect(() => checkRange(blocks, command, 'COMPRESS')).toThrow(protocolError);
  });
});

describe('checkDigests', () => {
  const CHUNK = 2n << 20n;
  const large = layOut([{ name: 'pc.ram', length: 3n << 30n }]);

  it('accepts what one answer has room for, and the end of a block that is no whole chunk', () => {
    const whole = { blockIndex: 0, offset: 1n << 30n, length: 1n << 30n };
    expect(checkDigests(large, whole)).toEqual({ index: 0, span: { offset: 1n << 30n, length: 1n << 30n } });
    const end = { blockIndex: 1, offset: 0n, length: 3n * PAGE };
    expect(checkDigests(blocks, end)).toEqual({ index: 1, span: { offset: 0n, length: 3n * PAGE } });
  });

  it.each([
    ['a block that is not there', { blockIndex: 1, offset: 0n, length: PAGE }],
    ['nothing', { blockIndex: 0, offset: 0n, length: 0n }],
    ['more than one answer', { blockIndex: 0, offset: 0n, length: (1n << 30n) + CHUNK }],
    ['the middle of a chunk', { blockIndex: 0, offset: PAGE, length: CHUNK }],
    ['what leaves the block', { blockIndex: 0, offset: (3n << 30n) - CHUNK, length: CHUNK + 1n }],
    ['an offset that wraps', { blockIndex: 0, offset: U64 - CHUNK + 1n, length: CHUNK }],
    ['a length that wraps', { blockIndex: 0, offset: CHUNK, length: U64 }],
  ])('rejects %s', (_, request) => {
    expect(() => checkDigests(large, request)).toThrow(protocolError);
  });
});

describe('checkRegister', () => {
  it('covers the chunk that holds the address and the chunks behind it, cut at the end of the block', () => {
    const command = { key: vga.offset + CHUNK_BYTES + PAGE, blockIndex: 2, chunks: 1n };
    expect(checkRegister(blocks, command)).toEqual({
      index: 2,
      span: { offset: CHUNK_BYTES, length: CHUNK_BYTES + PAGE, firstChunk: 1n, moreChunks: 1n },
    });
  });

  it.each([
    ['a block that is not there', { key: 0n, blockIndex: 4294967295, chunks: 0n }],
    ['an address behind the block', { key: rom.offset + rom.length, blockIndex: 1, chunks: 0n }],
    ['one chunk too many', { key: ram.offset, blockIndex: 0, chunks: 8n }],
    ['a chunk count that wraps', { key: ram.offset + CHUNK_BYTES, blockIndex: 0, chunks: U64 }],
    ['an address of another block', { key: ram.offset, blockIndex: 1, chunks: 0n }],
  ])('rejects %s', (_, command) => {
    expect(() => checkRegister(blocks, command)).toThrow(protocolError);
  });
});

describe('checkUnregister', () => {
  it('takes a chunk number, not an address', () => {
    expect(checkUnregister(blocks, { key: 2n, blockIndex: 2, chunks: 0n })).toEqual({
      index: 2,
      firstChunk: 2n,
    });
  });

  it.each([
    ['a chunk past the end', { key: 3n, blockIndex: 2, chunks: 0n }],
    ['a count past the end', { key: 1n, blockIndex: 2, chunks: 2n }],
    ['a block that is not there', { key: 0n, blockIndex: 9, chunks: 0n }],
  ])('rejects %s', (_, command) => {
    expect(() => checkUnregister(blocks, command)).toThrow(protocolError);
  });
});
