/** Long ranges of zeros: told in pieces that a peer has done within its deadline, and made zero in pieces that can be given up between. */
import { expect, it } from 'vitest';
import { MigrationDestination, mapMemfd, type RamBlock } from '../../lib/index.ts';
import type { SourceBlock } from '../../lib/migration/ram-round.ts';
import { type RamPassOptions, sendRam } from '../../lib/migration/source/ram-pass.ts';
import { SentMeter } from '../../lib/migration/source/sent-meter.ts';
import { native } from '../../lib/native/index.ts';
import type { CompressCommand, ControlMessage } from '../../lib/protocol/control.ts';
import { beginning, footer, header, hook, upToBlocks } from '../protocol/streams.ts';
import { MemoryTarget, PAGE } from '../support/memory-vm.ts';
import { compressCommand } from '../support/raw-control.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { PIECE } from '../support/small-vm.ts';

const GIB = 1n << 30n;
const STEP = 256n << 20n;
const LENGTH = GIB + (1n << 20n);
/** The destination's block lies there in its ram_addr space. */
const REMOTE_OFFSET = 7n << 20n;

it('a source tells a long range of zeros in COMPRESSes of at most 256 MiB, and leaves none out', async () => {
  const mapping = await mapMemfd({ name: 'zeros', length: LENGTH });
  const bitmap = native.createBitmap(Number(LENGTH / PAGE));
  bitmap.setRange(0, Number(LENGTH / PAGE));
  const sent: CompressCommand[] = [];
  const block = {
    block: { name: 'pc.ram', length: LENGTH, mapping },
    index: 3,
    bitmap,
    fresh: false,
    remote: { hostAddress: 0n, offset: REMOTE_OFFSET, length: LENGTH, rkey: 0 },
    mapping,
    length: LENGTH,
  } as unknown as SourceBlock;
  const send = async (message: ControlMessage): Promise<void> => {
    if (message.type === 'COMPRESS') sent.push(message);
  };
  const pins = { async *ready() {} };
  const options = { blocks: [block], turns: { send }, pins, connection: {}, last: true };
  const meter = new SentMeter();
  const signal = new AbortController().signal;
  const { zeroBytes } = await sendRam({ ...options, meter, signal } as unknown as RamPassOptions);
  expect(sent.map(({ offset, length }) => [offset - REMOTE_OFFSET, length])).toEqual([
    [0n, STEP],
    [STEP, STEP],
    [2n * STEP, STEP],
    [3n * STEP, STEP],
    [GIB, 1n << 20n],
  ]);
  expect(sent.every(({ blockIndex, value }) => blockIndex === 3 && value === 0)).toBe(true);
  expect(zeroBytes).toBe(LENGTH);
  expect(meter.read()).toContainEqual(expect.objectContaining({ type: 'zero', bytes: Number(LENGTH) }));
  await mapping.close();
});

/** Up to the hook of END, with one block. */
async function reachRam(source: ScriptedSource, length: bigint): Promise<void> {
  const start = upToBlocks(beginning().bytes(), [{ name: 'pc.ram', length }])
    .raw(hook())
    .bytes();
  await source.say('QEMU_FILE', start);
  await source.say('RAM_BLOCKS_REQUEST');
  await source.expect('RAM_BLOCKS_RESULT');
  await source.say('REGISTER_FINISHED');
  await source.say('QEMU_FILE', PIECE.eos);
  await source.say('QEMU_FILE', Buffer.concat([footer(), header(3), hook()]));
  await source.ready();
}

/** `zeroed` hears of every piece that is to be made zero, before it is. */
function watched(zeroed: (length: bigint) => void): MemoryTarget {
  const prepare = async (blocks: readonly RamBlock[]): Promise<void> => {
    for (const { mapping } of blocks) {
      const zero = mapping.zero.bind(mapping);
      const value: typeof zero = (offset, length, mayPunch) => {
        zeroed(length);
        return zero(offset, length, mayPunch);
      };
      Object.defineProperty(mapping, 'zero', { value });
    }
  };
  return new MemoryTarget({ prepare });
}

it('a destination makes a long range zero in pieces, and stops between two when it is cancelled', async () => {
  const cancel = new AbortController();
  const pieces: bigint[] = [];
  await using target = watched((length) => {
    pieces.push(length);
    if (pieces.length === 2) cancel.abort(new Error('enough'));
  });
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    provider: 'iwarp',
  });
  const received = destination.receive({ signal: cancel.signal });
  received.catch(() => {});
  await using source = await ScriptedSource.connect(Number(destination.uri.split(':').at(-1)));
  await reachRam(source, LENGTH);
  await source.say('COMPRESS', compressCommand(0, 0, 0n, LENGTH));
  await expect(received).rejects.toMatchObject({ code: 'CANCELLED' });
  expect(pieces).toEqual([STEP, STEP]);
});

it('a destination has made all of a long range zero before it says READY', async () => {
  const pieces: bigint[] = [];
  await using target = watched((length) => pieces.push(length));
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    provider: 'iwarp',
  });
  destination.receive().catch(() => {});
  await using source = await ScriptedSource.connect(Number(destination.uri.split(':').at(-1)));
  await reachRam(source, LENGTH);
  await source.say('COMPRESS', compressCommand(0, 0, 0n, LENGTH));
  await source.ready();
  expect(pieces.reduce((sum, length) => sum + length, 0n)).toBe(LENGTH);
});
