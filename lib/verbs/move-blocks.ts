/** Where a region lies, in words that the new place of a program understands. */
import { invalid } from '../options/check.ts';
import { bytesOf, type Registrable } from './registrable.ts';

interface Block {
  readonly name: string;
  readonly memory: Uint8Array;
}

/** `given`: see {@link MoveOptions.blocks}. */
export function blocksOf(
  given: Readonly<Record<string, Registrable>> | undefined,
  regions: Iterable<{ readonly memory: Uint8Array }>,
): readonly Block[] {
  if (given !== undefined)
    return Object.entries(given).map(([name, memory]) => ({ name, memory: bytesOf(memory) }));
  const buffers = new Set([...regions].map(({ memory }) => memory.buffer));
  return [...buffers].map((buffer, index) => ({ name: String(index), memory: bytesOf(buffer) }));
}

/** @throws MigrationError INVALID_ARGUMENT: it lies in none of them */
export function placeIn(
  blocks: readonly Block[],
  region: Uint8Array,
): { readonly block: string; readonly offset: number } {
  for (const { name, memory } of blocks) {
    const offset = region.byteOffset - memory.byteOffset;
    const isInside = offset >= 0 && offset + region.byteLength <= memory.byteLength;
    if (memory.buffer === region.buffer && isInside) return { block: name, offset };
  }
  throw invalid(`a region of ${region.byteLength} bytes lies in none of the blocks of the move`);
}
