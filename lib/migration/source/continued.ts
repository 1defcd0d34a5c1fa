/** What an earlier try has left at the destination, and need not be sent again. */
import { MigrationError } from '../../errors.ts';
import { DIGEST_BYTES, DIGEST_CHUNK_BYTES, MOST_DIGESTS } from '../../protocol/control.ts';
import { cut, type Span } from '../../ram/spans.ts';
import type { SourceTurns } from '../../transport/turns.ts';
import { unlessAborted } from '../../transport/wait.ts';
import type { SourceBlock } from '../ram-round.ts';

const ONE_ANSWER = DIGEST_CHUNK_BYTES * BigInt(MOST_DIGESTS);

/**
 * Compares every chunk of RAM, and takes those that are equal out of what is to be sent; gives their bytes. Each end reads its own RAM, side by side.
 * @throws MigrationError PROTOCOL_ERROR: an answer about something else; and as a request does
 */
export async function continueFrom(
  blocks: readonly SourceBlock[],
  turns: SourceTurns,
  signal: AbortSignal | undefined,
): Promise<bigint> {
  let equal = 0n;
  for (const source of blocks) {
    for (const span of cut({ offset: 0n, length: source.block.length }, ONE_ANSWER)) {
      for (const chunk of await equalChunks(source, span, turns, signal)) {
        const pageSize = BigInt(source.block.mapping.pageSize);
        source.bitmap.clearRange(Number(chunk.offset / pageSize), Number(chunk.length / pageSize));
        equal += chunk.length;
      }
    }
  }
  return equal;
}

async function equalChunks(
  { block, index: blockIndex }: SourceBlock,
  span: Span,
  turns: SourceTurns,
  signal: AbortSignal | undefined,
): Promise<readonly Span[]> {
  const asked = turns.request({ type: 'DIGESTS_REQUEST', blockIndex, ...span }, 'DIGESTS_RESULT');
  const read = block.mapping.digestChunks(span.offset, span.length, DIGEST_CHUNK_BYTES);
  const [{ digests }, own] = await Promise.all([asked, unlessAborted(read, signal, 'setup')]);
  if (digests.length !== own.length) throw wrongCount(digests.length, own.length);
  const of = (all: Uint8Array, at: number): Uint8Array =>
    all.subarray(at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES);
  return cut(span, DIGEST_CHUNK_BYTES).filter((_, at) => Buffer.compare(of(digests, at), of(own, at)) === 0);
}

const wrongCount = (received: number, expected: number): MigrationError =>
  new MigrationError(
    'PROTOCOL_ERROR',
    'setup',
    `the destination sent ${received / DIGEST_BYTES} digests where ${expected / DIGEST_BYTES} were asked for`,
    { details: { received, expected } },
  );
