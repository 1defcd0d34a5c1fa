/** What a source has in hand before its first pass: its blocks beside the destination's, and who registers them. */
import { MigrationError } from '../../errors.ts';
import { native } from '../../native/index.ts';
import type { Agreed } from '../../protocol/capabilities.ts';
import type { DestinationBlock } from '../../protocol/control.ts';
import type { HintBook } from '../../ram/hint-book.ts';
import { type SourceVm, sentOf } from '../../ram/vm.ts';
import type { Connection } from '../../transport/connection.ts';
import type { SourceTurns, TurnLimits } from '../../transport/turns.ts';
import { unlessAborted } from '../../transport/wait.ts';
import { PinWindow, pinGranule, pinnedSpanBytes, spanBytesFor } from '../pins/pin-window.ts';
import {
  type LocalKeys,
  registerWhole,
  type SourcePins,
  type SpanKeys,
  SpanPins,
  WholeBlocks,
} from '../pins/source-pins.ts';
import type { SourceBlock } from '../ram-round.ts';
import { WINDOW_BYTES } from './ram-pass.ts';

/** Spans that one message asks for: two turns of the four threads with which a destination pins. */
const SPANS_AHEAD = 8n;

/**
 * The blocks, with every page that is to be sent first. `fresh`: the destination's RAM is zero.
 * @throws MigrationError BLOCK_MISMATCH: the destination has others
 */
export function prepareBlocks(
  vm: SourceVm,
  remote: readonly DestinationBlock[],
  fresh: boolean,
): SourceBlock[] {
  requireSameBlocks(vm, remote);
  const prepared: SourceBlock[] = [];
  const settling = new Set(vm.guest?.settling);
  const sent = sentOf(vm);
  for (const [index, block] of vm.blocks.entries()) {
    const pages = Number(block.length / BigInt(block.mapping.pageSize));
    const bitmap = native.createBitmap(pages);
    const settles = settling.has(block.name);
    if (!settles) bitmap.setRange(0, pages);
    const counterpart = remote[index] as DestinationBlock;
    const digests = sent.get(block.name);
    prepared.push({
      index,
      block,
      remote: counterpart,
      bitmap,
      fresh,
      ...(digests && { digests }),
    });
  }
  return prepared;
}

interface PinContext {
  readonly connection: Connection;
  readonly turns: SourceTurns;
  readonly agreed: Agreed;
  readonly pinBudget: bigint | undefined;
  readonly hints: HintBook | undefined;
  readonly limits: TurnLimits;
  /** With pin-all: what {@link pinHere} has begun. */
  readonly pinned: Promise<LocalKeys> | undefined;
}

/** With pin-all: registers the blocks here while the destination registers its own. Never an unhandled rejection. */
export function pinHere(vm: SourceVm, connection: Connection): Promise<LocalKeys> {
  const sent = sentOf(vm);
  const blocks = vm.blocks.map((block, index) => ({ index, block }));
  const pinned = registerWhole(
    connection,
    blocks.filter(({ block }) => !sent.has(block.name)),
  );
  pinned.catch(() => {}); // told by preparePins(), unless the destination fails first
  return pinned;
}

/** @throws MigrationError REGISTER_FAILED, LOCKED_MEMORY_LIMIT */
export async function preparePins(
  blocks: readonly SourceBlock[],
  { connection, turns, agreed, pinBudget: budget, hints, limits, pinned }: PinContext,
): Promise<SourcePins> {
  if (pinned) return new WholeBlocks(connection, await unlessAborted(pinned, limits.signal, 'setup'), blocks);
  const granule = pinGranule(blocks.map(({ block }) => block.mapping.pageSize));
  const lengths = blocks.map(({ block }) => block.length);
  const short = agreed.extended && connection.info.pinsMemory;
  const most = short ? pinnedSpanBytes(lengths.reduce((sum, length) => sum + length, 0n)) : WINDOW_BYTES;
  const window = new PinWindow<SpanKeys>(
    lengths,
    { budget, spanBytes: spanBytesFor(budget, granule, most, agreed.extended ? 'batched' : 'single') },
    (index, span) => hints?.temperature((blocks[index] as SourceBlock).block.name, span) ?? 'normal',
  );
  const { extended, sparse } = agreed;
  const waits = { timeoutMs: limits.timeoutMs, signal: limits.signal as AbortSignal };
  const ahead = short && { aheadBytes: SPANS_AHEAD * window.spanBytes };
  return new SpanPins({ connection, turns, window, extended, sparse, ...ahead, ...waits });
}

function requireSameBlocks({ blocks }: SourceVm, remote: readonly DestinationBlock[]): void {
  if (remote.length !== blocks.length) {
    throw mismatch(`it has ${remote.length} RAM blocks, the source ${blocks.length}`);
  }
  blocks.forEach(({ name, length }, index) => {
    const other = (remote[index] as DestinationBlock).length;
    if (other !== length) throw mismatch(`its block '${name}' has ${other} bytes, the source's ${length}`);
  });
}

function mismatch(what: string): MigrationError {
  return new MigrationError(
    'BLOCK_MISMATCH',
    'setup',
    `the destination's RAM differs: ${what}. Start it with the same machine type and memory size`,
  );
}
