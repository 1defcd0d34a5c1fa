/** A source whose destination lies, fails, dies or falls silent. Its image is never touched. */
import { describe, expect, it } from 'vitest';
import type { ErrorCode, Phase, SourceOptions } from '../../lib/index.ts';
import { PATIENCE_MS } from '../support/patience.ts';
import {
  type Announced,
  announcedBlock,
  controlMessage,
  type Message,
  u32s,
  u64s,
} from '../support/raw-control.ts';
import { withDeadline } from '../support/raw-iwarp.ts';
import { RawListener } from '../support/raw-listener.ts';
import { type DestinationScript, ScriptedDestination } from '../support/scripted-destination.ts';
import { nameOf } from '../support/scripted-source.ts';
import { sourceFails, untouchedImage } from '../support/sending.ts';
import { SMALL_BLOCKS } from '../support/small-vm.ts';

const image = await untouchedImage();

const BLOCKS: readonly Announced[] = SMALL_BLOCKS.map(({ length }, index) => ({
  address: 0x7f00_0000_0000n + BigInt(index) * 0x1000_0000n,
  offset: BigInt(index) * 0x1000_0000n,
  length,
  rkey: 77 + index,
}));

type Deed = (destination: ScriptedDestination) => void;
/** Does something and has done with it: the script is over, the connection stays. */
const then = (deed: Deed) => (destination: ScriptedDestination) => {
  deed(destination);
  return Promise.resolve('over' as const);
};

interface Expected {
  readonly code: ErrorCode | readonly ErrorCode[];
  readonly phase: Phase | readonly Phase[];
  readonly options?: SourceOptions;
}

/** What the source says to a destination that it gives up. */
const FAREWELL = ['ERROR', 'end'];

async function fails(
  script: Partial<DestinationScript>,
  { code, phase, options }: Expected,
): Promise<{ message: string; farewell: string[] }> {
  await using listener = await RawListener.open();
  const destination = new ScriptedDestination({ blocks: BLOCKS, ...script });
  const served = destination.serve(listener);
  served.catch(() => {});
  const { message } = await sourceFails(image, listener.uri, code, phase, options);
  await withDeadline(served, 'the end of the script');
  const farewell = (await destination.peer.untilEnd()).map(nameOf);
  return { message, farewell };
}

const blocksBut = (change: (blocks: readonly Announced[]) => readonly Announced[]): Buffer =>
  Buffer.concat(change(BLOCKS).map(announcedBlock));
const longer = (block: Announced): Announced => ({
  ...block,
  length: block.length + 4096n,
});

const BLOCK_ANSWERS: readonly { name: string; data: Buffer; code: ErrorCode }[] = [
  { name: 'one block too few', data: blocksBut((all) => all.slice(1)), code: 'BLOCK_MISMATCH' },
  { name: 'one block too many', data: blocksBut((all) => [...all, ...all.slice(1)]), code: 'BLOCK_MISMATCH' },
  { name: 'a longer block', data: blocksBut((all) => all.map(longer)), code: 'BLOCK_MISMATCH' },
  { name: 'blocks in another order', data: blocksBut((all) => [...all].reverse()), code: 'BLOCK_MISMATCH' },
  { name: 'half a block', data: Buffer.alloc(48), code: 'PROTOCOL_ERROR' },
  { name: 'no block', data: Buffer.alloc(0), code: 'PROTOCOL_ERROR' },
];

const onMessage = (type: Message['type'], deed: Deed): Partial<DestinationScript> => ({
  instead: (message, destination) => (message.type === type ? then(deed)(destination) : undefined),
});

const registerResult = (address: bigint, count = 1): Buffer =>
  Buffer.concat(Array<Buffer>(count).fill(Buffer.concat([u32s(5, 0), u64s(address)])));

/** The script is over before that READY. */
const onReady = (number: number): Partial<DestinationScript> => atReady(number)(() => {});

describe('a source refuses as RAM_BLOCKS_RESULT', () => {
  it.each(BLOCK_ANSWERS)('$name', async ({ data, code }) => {
    const { farewell } = await fails({ blocksResult: data, ...onReady(2) }, { code, phase: 'setup' });
    expect(farewell).toEqual(FAREWELL);
  });

  it.each([
    { name: 'another message', deed: (d: ScriptedDestination) => d.say('UNREGISTER_FINISHED') },
    { name: 'a READY', deed: (d: ScriptedDestination) => d.say('READY') },
    { name: 'noise', deed: (d: ScriptedDestination) => d.peer.send(Buffer.alloc(300, 0xa5)) },
  ])('$name', async ({ deed }) => {
    const expected = { code: 'PROTOCOL_ERROR', phase: 'setup' } as const;
    const { farewell } = await fails(onMessage('RAM_BLOCKS_REQUEST', deed), expected);
    expect(farewell).toEqual(FAREWELL);
  });
});

describe('a source refuses as REGISTER_RESULT', () => {
  const address = BLOCKS[0]?.address as bigint;
  it.each([
    {
      name: 'the address of the chunk and not of the block',
      data: registerResult(address + 4096n),
      repeat: 1,
    },
    { name: 'two results', data: registerResult(address, 2), repeat: 2 },
    { name: 'no result', data: Buffer.alloc(0), repeat: 0 },
    { name: 'half a result', data: Buffer.alloc(8), repeat: 1 },
  ])('$name', async ({ data, repeat }) => {
    const deed = (d: ScriptedDestination): void => d.say('REGISTER_RESULT', data, repeat);
    const expected = { code: 'PROTOCOL_ERROR', phase: 'ram' } as const;
    const { farewell } = await fails(onMessage('REGISTER_REQUEST', deed), expected);
    expect(farewell).toEqual(FAREWELL);
  });

  it('a key that the destination then refuses', async () => {
    const deed = (d: ScriptedDestination): void => {
      d.say('REGISTER_RESULT', registerResult(address));
      d.say('READY');
      d.peer.terminate(1, 1, 0);
    };
    await fails(onMessage('REGISTER_REQUEST', deed), { code: 'TERMINATE_RECEIVED', phase: 'ram' });
  });
});

/** Where a destination may fail, by the number of READYs it has said: the order of messages is fixed up to RAM. */
const MOMENTS: readonly {
  name: string;
  phase: Phase | readonly Phase[];
  script: (deed: Deed) => Partial<DestinationScript>;
}[] = [
  { name: 'before READY', phase: ['negotiate', 'setup'], script: atReady(0) },
  { name: 'behind the start of the stream', phase: 'setup', script: atReady(1) },
  {
    name: 'instead of the blocks',
    phase: 'setup',
    script: (deed) => onMessage('RAM_BLOCKS_REQUEST', deed),
  },
  { name: 'behind the blocks', phase: 'setup', script: atReady(2) },
  { name: 'behind REGISTER_FINISHED of setup', phase: 'setup', script: atReady(3) },
  { name: 'at the beginning of RAM', phase: 'ram', script: atReady(4) },
  { name: 'instead of a key', phase: 'ram', script: (deed) => onMessage('REGISTER_REQUEST', deed) },
  { name: 'at a COMPRESS', phase: 'ram', script: (deed) => onMessage('COMPRESS', deed) },
];

function atReady(number: number): (deed: Deed) => Partial<DestinationScript> {
  return (deed) => ({
    beforeReady: (count, destination) => (count === number ? then(deed)(destination) : undefined),
  });
}

const DEEDS: readonly { what: string; deed: Deed; code: ErrorCode; options?: SourceOptions }[] = [
  { what: 'says ERROR', deed: (d) => d.peer.send(controlMessage('ERROR')), code: 'PEER_ERROR' },
  { what: 'is killed', deed: (d) => d.peer.kill(), code: 'CONNECTION_LOST' },
  { what: 'disconnects', deed: (d) => d.peer.finish(), code: 'CONNECTION_LOST' },
  { what: 'speaks an unknown type', deed: (d) => d.peer.send(controlMessage(42)), code: 'PROTOCOL_ERROR' },
];

describe.each(MOMENTS)('$name', ({ phase, script }) => {
  it.each(DEEDS)('a destination that $what fails the migration', async ({ deed, code, options }) => {
    await fails(script(deed), { code, phase, ...(options ? { options } : {}) });
  });
});

describe.concurrent('a destination that falls silent fails the migration', () => {
  it.each(MOMENTS)('$name', async ({ phase, script }) => {
    const options = { responseTimeoutMs: PATIENCE_MS };
    await fails(
      script(() => {}),
      { code: 'TIMEOUT', phase, options },
    );
  });
});

const AT_COMMIT: readonly { what: string; deed: Deed; code: ErrorCode; options?: SourceOptions }[] = [
  { what: 'is killed', deed: (d) => d.peer.kill(), code: 'COMMIT_UNKNOWN' },
  { what: 'disconnects', deed: (d) => d.peer.finish(), code: 'COMMIT_UNKNOWN' },
  { what: 'falls silent', deed: () => {}, code: 'COMMIT_UNKNOWN', options: { commitTimeoutMs: PATIENCE_MS } },
  { what: 'says noise', deed: (d) => d.peer.send(Buffer.alloc(64, 0xff)), code: 'COMMIT_UNKNOWN' },
  { what: 'says an unknown status', deed: (d) => d.say('COMMITTED', u32s(9)), code: 'COMMIT_UNKNOWN' },
  { what: 'says READY', deed: (d) => d.say('READY'), code: 'COMMIT_UNKNOWN' },
  { what: 'says ERROR', deed: (d) => d.say('ERROR'), code: 'PEER_ERROR' },
  { what: 'found other counts', deed: (d) => d.say('COMMITTED', u32s(1)), code: 'COMMIT_MISMATCH' },
  { what: 'found another digest', deed: (d) => d.say('COMMITTED', u32s(2)), code: 'COMMIT_MISMATCH' },
  { what: 'found other RAM', deed: (d) => d.say('COMMITTED', u32s(3)), code: 'COMMIT_MISMATCH' },
];

describe('once it has asked for the commit', () => {
  it.each(AT_COMMIT)('a destination that $what ends as $code', async ({ deed, code, options }) => {
    const script = { commit: true, ...onMessage('COMMIT', deed) };
    const { message } = await fails(script, {
      code,
      phase: 'commit',
      ...(options ? { options } : {}),
    });
    if (code !== 'COMMIT_UNKNOWN') return;
    expect(message).toMatch(/Look at the destination/);
    expect(message).toMatch(/This is migration [0-9a-f-]{36}:/);
  });

  it('a destination that dies before it hears COMMIT has surely not got it', async () => {
    let files = 0;
    const instead = (message: Message, d: ScriptedDestination) => {
      if (message.type === 'QEMU_FILE') files += 1;
      return files === 5 ? then(() => d.peer.kill())(d) : undefined;
    };
    await fails({ commit: true, instead }, { code: 'CONNECTION_LOST', phase: 'commit' });
  });
});

/** What a version 1 destination may do instead of an orderly end, once it has the last bytes. */
const AT_THE_END: readonly { what: string; deed: Deed; code: ErrorCode; options?: SourceOptions }[] = [
  { what: 'is killed', deed: (d) => d.peer.kill(), code: 'COMMIT_UNKNOWN' },
  { what: 'finds a damaged segment', deed: (d) => d.peer.terminate(2, 0, 2), code: 'COMMIT_UNKNOWN' },
  { what: 'says noise', deed: (d) => d.peer.send(Buffer.alloc(64, 0xff)), code: 'COMMIT_UNKNOWN' },
  {
    what: 'speaks no iWARP any more',
    deed: (d) => d.peer.raw(Buffer.alloc(64, 0xff)),
    code: 'COMMIT_UNKNOWN',
  },
  { what: 'ends in the middle of a message', deed: halfAMessage, code: 'COMMIT_UNKNOWN' },
  { what: 'answers what nobody asked', deed: (d) => answersAndEnds(d), code: 'COMMIT_UNKNOWN' },
  {
    what: 'falls silent',
    deed: (d) => d.peer.stayOpen(),
    code: 'COMMIT_UNKNOWN',
    options: { responseTimeoutMs: PATIENCE_MS },
  },
  { what: 'says ERROR', deed: (d) => d.say('ERROR'), code: 'PEER_ERROR' },
];

function halfAMessage({ peer }: ScriptedDestination): void {
  peer.raw(Buffer.of(0, 40, 0x41, 0x43));
  peer.finish();
}

function answersAndEnds(destination: ScriptedDestination): void {
  destination.say('COMMITTED', u32s(0));
  destination.peer.finish();
}

/** The READYs that a version 1 destination says for the small VM: one for every message but the last. */
async function readiesOfAll(): Promise<number> {
  await using listener = await RawListener.open();
  const destination = new ScriptedDestination({ blocks: BLOCKS });
  const served = destination.serve(listener);
  const { MigrationSource, openImage } = await import('../../lib/index.ts');
  await using vm = await openImage(image);
  const result = await withDeadline(new MigrationSource(vm, listener.uri).migrate(), 'the migration');
  await withDeadline(served, 'the script');
  expect(result.outcome).toBe('unconfirmed');
  return destination.received.length;
}

describe('a version 1 destination that has the last bytes', () => {
  it.each(AT_THE_END)('and $what ends as $code', async ({ deed, code, options }) => {
    const all = await readiesOfAll();
    const script = atReady(all)(deed);
    const { message } = await fails(script, { code, phase: 'device-state', ...(options ? { options } : {}) });
    if (code === 'COMMIT_UNKNOWN') expect(message).toMatch(/Look at the destination BEFORE/);
  });
});

it('a flood of READYs ends the migration', async () => {
  const flood = (d: ScriptedDestination): void => {
    for (let count = 0; count < 2000; count++) d.say('READY');
  };
  await fails(atReady(0)(flood), { code: ['PROTOCOL_ERROR', 'WIRE_ERROR'], phase: 'setup' });
});

it('READYs that nobody earned are not saved up', async () => {
  const twice = (count: number, d: ScriptedDestination): undefined => {
    if (count === 1) d.say('READY');
  };
  await fails({ beforeReady: twice }, { code: 'PROTOCOL_ERROR', phase: 'setup' });
});

it('an honest scripted destination gets the VM: the failures above are the deeds', async () => {
  const { MigrationSource, openImage } = await import('../../lib/index.ts');
  await using listener = await RawListener.open();
  const destination = new ScriptedDestination({ blocks: BLOCKS, commit: true });
  const served = destination.serve(listener);
  await using vm = await openImage(image);
  const result = await withDeadline(new MigrationSource(vm, listener.uri).migrate(), 'the migration');
  await withDeadline(served, 'the script');
  expect(result.outcome).toBe('committed');
  expect([destination.missing(0), destination.missing(1)]).toEqual([0n, 0n]);
});
