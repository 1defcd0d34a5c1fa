/**
 * Checks what a source asks of the destination's RAM before anything is done with it: block index, address, chunk count, length.
 */
import { MigrationError } from '../../errors.ts';
import { DIGEST_CHUNK_BYTES, MOST_DIGESTS } from '../../protocol/control.ts';
import { CHUNK_BYTES, type ChunkSpan, chunkCount, type Span } from '../../ram/spans.ts';

/** A block as the destination has announced it in RAM_BLOCKS_RESULT. */
export interface AnnouncedBlock {
  readonly name: string;
  readonly length: bigint;
  /** Its position in the destination's ram_addr space. */
  readonly offset: bigint;
}

/** A checked range of an announced block. */
export interface BlockSpan<S extends Span> {
  readonly index: number;
  readonly span: S;
}

/**
 * Lays blocks out one after the other in a ram_addr space of our own, each at a chunk's boundary. Only differences to a block's offset
 * ever count, so any layout without overlaps serves.
 */
export function layOut(blocks: readonly { name: string; length: bigint }[]): AnnouncedBlock[] {
  let offset = 0n;
  return blocks.map(({ name, length }) => {
    const block = { name, length, offset };
    offset += chunkCount(length) * CHUNK_BYTES;
    return block;
  });
}

function blockAt(blocks: readonly AnnouncedBlock[], index: number, what: string): AnnouncedBlock {
  const block = blocks[index];
  if (block) return block;
  throw violation(`${what} names block ${index}; there are ${blocks.length}`, {
    blockIndex: index,
    blocks: blocks.length,
  });
}

/** @throws MigrationError PROTOCOL_ERROR when the range leaves its block */
export function checkRange(
  blocks: readonly AnnouncedBlock[],
  command: { blockIndex: number; offset: bigint; length: bigint },
  what: string,
): BlockSpan<Span> {
  const block = blockAt(blocks, command.blockIndex, what);
  const offset = command.offset - block.offset;
  if (
    command.length <= 0n ||
    offset < 0n ||
    offset > block.length ||
    command.length > block.length - offset
  ) {
    throw outside(block, command, what);
  }
  return { index: command.blockIndex, span: { offset, length: command.length } };
}

/** @throws MigrationError PROTOCOL_ERROR when the range leaves its block, begins in a chunk, or is longer than one answer */
export function checkDigests(
  blocks: readonly AnnouncedBlock[],
  request: { blockIndex: number; offset: bigint; length: bigint },
): BlockSpan<Span> {
  const what = 'DIGESTS_REQUEST';
  const block = blockAt(blocks, request.blockIndex, what);
  const { offset, length } = request;
  const most = DIGEST_CHUNK_BYTES * BigInt(MOST_DIGESTS);
  const inside = length > 0n && offset <= block.length && length <= block.length - offset;
  if (!inside || length > most || offset % DIGEST_CHUNK_BYTES !== 0n) throw outside(block, request, what);
  return { index: request.blockIndex, span: { offset, length } };
}

/** @throws MigrationError PROTOCOL_ERROR when the address or the chunk count leaves its block */
export function checkRegister(
  blocks: readonly AnnouncedBlock[],
  command: { key: bigint; blockIndex: number; chunks: bigint },
): BlockSpan<ChunkSpan> {
  const what = 'REGISTER_REQUEST';
  const block = blockAt(blocks, command.blockIndex, what);
  const at = command.key - block.offset;
  if (at < 0n || at >= block.length)
    throw outside(block, { blockIndex: command.blockIndex, offset: command.key, length: 1n }, what);
  const firstChunk = at / CHUNK_BYTES;
  checkChunks(block, firstChunk, command.chunks, what);
  const offset = firstChunk * CHUNK_BYTES;
  const length = chunksEnd(block, firstChunk + command.chunks) - offset;
  return { index: command.blockIndex, span: { offset, length, firstChunk, moreChunks: command.chunks } };
}

/** UNREGISTER counts by chunk number. @throws MigrationError PROTOCOL_ERROR */
export function checkUnregister(
  blocks: readonly AnnouncedBlock[],
  command: { key: bigint; blockIndex: number; chunks: bigint },
): { index: number; firstChunk: bigint } {
  const what = 'UNREGISTER_REQUEST';
  const block = blockAt(blocks, command.blockIndex, what);
  checkChunks(block, command.key, command.chunks, what);
  return { index: command.blockIndex, firstChunk: command.key };
}

function outside(
  block: AnnouncedBlock,
  { blockIndex, offset, length }: { blockIndex: number; offset: bigint; length: bigint },
  what: string,
): MigrationError {
  return violation(
    `${what} covers ${length} bytes at ${offset}; block '${block.name}' has ${block.length} bytes at ${block.offset}`,
    { blockIndex, offset, length },
  );
}

function chunksEnd(block: AnnouncedBlock, lastChunk: bigint): bigint {
  const end = (lastChunk + 1n) * CHUNK_BYTES;
  return end < block.length ? end : block.length;
}

function checkChunks(block: AnnouncedBlock, first: bigint, more: bigint, what: string): void {
  const count = chunkCount(block.length);
  if (first < count && more < count - first) return;
  throw violation(`${what} covers chunks ${first} and ${more} more; block '${block.name}' has ${count}`, {
    firstChunk: first,
    moreChunks: more,
    chunks: count,
  });
}

function violation(message: string, details: Record<string, number | bigint>): MigrationError {
  return new MigrationError('PROTOCOL_ERROR', 'ram', `the source sent a request out of bounds: ${message}`, {
    details,
  });
}
