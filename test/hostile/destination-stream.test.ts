/** A destination whose source sends a stream that is garbage, cut, or not what it says at the end. */
import { readdir } from 'node:fs/promises';
import { dirname } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { ErrorCode, Phase } from '../../lib/index.ts';
import { beginning, blockList, footer, header, hook, startHeader, upToBlocks } from '../protocol/streams.ts';
import { withDeadline } from '../support/raw-iwarp.ts';
import { type Receiving, receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { PIECE, SMALL_BLOCKS, SMALL_DEVICE_STATE } from '../support/small-vm.ts';

interface Garbage {
  readonly name: string;
  readonly bytes: Uint8Array;
  readonly code?: ErrorCode | readonly ErrorCode[];
  readonly phase?: Phase;
}

const huge = (length: bigint): Uint8Array =>
  upToBlocks(beginning().bytes(), [{ name: 'pc.ram', length }])
    .raw(hook())
    .bytes();

const AT_START: readonly Garbage[] = [
  { name: 'stream version 2', bytes: Buffer.from('5145564d00000002', 'hex') },
  { name: 'a machine name of 4 GiB', bytes: Buffer.from('5145564d0000000307ffffffff', 'hex') },
  { name: 'a section that is not ram', bytes: beginning().raw(startHeader('timer').bytes()).bytes() },
  { name: 'version 5 of the ram section', bytes: beginning().raw(startHeader('ram', 5).bytes()).bytes() },
  { name: 'no blocks', bytes: upToBlocks(beginning().bytes(), []).bytes() },
  {
    name: 'a block of half a page',
    bytes: upToBlocks(beginning().bytes(), [{ name: 'pc.ram', length: 2048n }]).bytes(),
  },
  {
    name: 'two blocks of one name',
    bytes: upToBlocks(beginning().bytes(), [SMALL_BLOCKS[0], SMALL_BLOCKS[0]]).bytes(),
  },
  {
    name: 'blocks that are longer than the total',
    bytes: beginning().raw(startHeader().bytes()).raw(blockList(SMALL_BLOCKS, 4096n)).bytes(),
  },
  { name: '5,000 blocks', bytes: manyBlocks(5000) },
  {
    name: 'RAM of 2^46 bytes',
    bytes: huge(2n ** 46n),
    code: 'OUT_OF_MEMORY',
  },
  {
    name: 'RAM of 2^63 bytes',
    bytes: huge(2n ** 63n),
    code: 'OUT_OF_MEMORY',
  },
];

/** So does no QEMU begin: whoever says that has the first word of no migration. */
const NO_STREAM: readonly Garbage[] = [
  { name: 'noise', bytes: Buffer.alloc(30_000, 0xa7) },
  { name: 'another magic', bytes: Buffer.from('4d56455100000003', 'hex') },
];

function manyBlocks(count: number): Uint8Array {
  const blocks = Array.from({ length: count }, (_, index) => ({ name: `block${index}`, length: 4096n }));
  return upToBlocks(beginning().bytes(), blocks).bytes();
}

async function sayInPieces(source: ScriptedSource, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; at += 32 << 10) {
    await source.say('QEMU_FILE', bytes.subarray(at, at + (32 << 10)));
  }
}

describe('a destination refuses a stream that begins with', () => {
  it.each(AT_START)('$name', async ({ bytes, code = 'STREAM_ERROR', phase = 'setup' }) => {
    await using received = await receiving({}, { external: false });
    await using source = await ScriptedSource.connect(received.port, { commit: true });
    await sayInPieces(source, bytes).catch(() => {});
    await received.fails(code, phase);
    expect((await source.farewell()).slice(-2)).toEqual(['ERROR', 'end']);
  });
});

describe('a destination goes on waiting after a first message that begins with', () => {
  it.each(NO_STREAM)('$name', async ({ bytes }) => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, { commit: true });
    await source.say('QEMU_FILE', bytes.subarray(0, 32 << 10));
    expect(await source.farewell()).toEqual(['ERROR', 'end']);
    expect(received.notices).toEqual([expect.stringContaining('no beginning of a QEMU stream')]);
    await received.destination.close();
    await received.fails('CANCELLED', 'listen');
  });
});

const AFTER_SETUP: readonly Garbage[] = [
  { name: 'pages in line', bytes: Buffer.concat([footer(), header(3), Buffer.alloc(8, 8)]) },
  { name: 'the footer of another section', bytes: footer(9) },
  { name: 'the part of another section', bytes: Buffer.concat([footer(), header(2, 3), hook()]) },
  { name: 'a device before the end of ram', bytes: Buffer.concat([footer(), SMALL_DEVICE_STATE]) },
  { name: 'the end of the stream', bytes: Buffer.concat([footer(), Buffer.of(0)]) },
];

describe('a destination refuses behind the START of ram', () => {
  it.each(AFTER_SETUP)('$name', async ({ bytes }) => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, { commit: true });
    await source.reach('setup-done');
    await source.say('QEMU_FILE', bytes);
    await received.fails('STREAM_ERROR', 'setup');
    expect(await source.farewell()).toEqual(['ERROR', 'end']);
  });
});

/** Every QEMU_FILE of a v1 migration, where each is cut. */
const FILES = [
  { what: 'START', stage: 'connected', bytes: PIECE.start, phase: 'setup' },
  { what: 'the EOS of START', stage: 'announced', bytes: PIECE.eos, phase: 'setup' },
  { what: 'END', stage: 'setup-done', bytes: PIECE.end, phase: 'setup' },
  { what: 'the EOS of END', stage: 'ram-done', bytes: PIECE.eos, phase: 'ram' },
  { what: 'device state', stage: 'device', bytes: SMALL_DEVICE_STATE.subarray(0, -1), phase: 'device-state' },
] as const;

describe.each(FILES)('when a v1 source disconnects inside $what', ({ what, stage, bytes, phase }) => {
  it.each([0.3, 0.7, 1])('behind %d of it, nothing is kept', async (part) => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port);
    await source.reach(stage);
    if (what === 'the EOS of START') await source.say('REGISTER_FINISHED');
    const cut = bytes.subarray(0, Math.max(1, Math.floor(bytes.length * part) - 1));
    await source.say('QEMU_FILE', cut);
    await source.ready();
    source.peer.finish();
    await received.fails(['CONNECTION_LOST', 'STREAM_TRUNCATED'], phase);
  });
});

it('a v1 source whose last byte of device state is missing is not believed', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port);
  await source.reach('ram-done');
  await source.say('QEMU_FILE', Buffer.concat([PIECE.eos, PIECE.device.subarray(0, -1)]));
  await source.ready();
  source.peer.finish();
  await received.fails(['CONNECTION_LOST', 'STREAM_TRUNCATED'], 'device-state');
});

it('a v1 source that resets the connection behind its whole stream is not believed', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port);
  await source.reach('ram-done');
  await source.say('QEMU_FILE', Buffer.concat([PIECE.eos, PIECE.device]));
  source.peer.kill();
  await received.fails('CONNECTION_LOST', 'device-state');
});

async function committing(
  change: (commit: Buffer) => void,
): Promise<{ received: Receiving; status: number }> {
  const received = await receiving();
  await using source = await ScriptedSource.connect(received.port, { commit: true });
  await source.reach('written');
  await source.reach('stream-done');
  const commit = source.account.commit();
  change(commit);
  await source.say('COMMIT', commit);
  const status = (await source.expect('COMMITTED')).data.readUInt32BE(0);
  await source.peer.untilEnd();
  return { received, status };
}

const LIES = [
  { name: 'stream bytes', at: 7, status: 1 },
  { name: 'RAM bytes', at: 15, status: 1 },
  { name: 'zero bytes', at: 23, status: 1 },
  { name: 'rounds', at: 27, status: 1 },
  { name: 'digest', at: 63, status: 2 },
];

describe('a destination answers a COMMIT', () => {
  it.each(LIES)('with a wrong $name by status $status and keeps nothing', async ({ at, status }) => {
    const outcome = await committing((commit) => commit.writeUInt8((commit[at] as number) ^ 1, at));
    await using received = outcome.received;
    expect(outcome.status).toBe(status);
    await received.fails('COMMIT_MISMATCH', 'commit');
  });

  it('that tells the truth by status 0 and keeps the VM', async () => {
    const outcome = await committing(() => {});
    await using received = outcome.received;
    expect(outcome.status).toBe(0);
    await withDeadline(received.result, 'the result');
    expect(await readdir(dirname(received.path))).toEqual(['vm']);
  });

  it('in the middle of the device state with an ERROR', async () => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, { commit: true });
    await source.reach('device');
    await source.say('COMMIT', source.account.commit());
    await received.fails('STREAM_TRUNCATED', 'commit');
    expect(await source.farewell()).toEqual(['ERROR', 'end']);
  });

  it('and keeps the VM even if the source dies before it hears the answer', async () => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, { commit: true });
    await source.reach('stream-done');
    await source.say('COMMIT', source.account.commit());
    source.peer.finish();
    const result = await withDeadline(received.result, 'the result');
    // Whether the answer still left is not in this side's hands; that it says so is.
    const told = !received.notices.some((notice) => notice.includes('the source could not be told'));
    expect(result.outcome).toBe(told ? 'committed' : 'unconfirmed');
    expect(await readdir(dirname(received.path))).toEqual(['vm']);
  });
});
