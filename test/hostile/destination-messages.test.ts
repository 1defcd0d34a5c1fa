/** A destination whose source sends what it must not: each is refused, said to the source, and undone. */
import { describe, expect, it } from 'vitest';
import type { ErrorCode, Phase } from '../../lib/index.ts';
import {
  compressCommand,
  controlMessage,
  registerCommand,
  type TypeName,
  u32s,
} from '../support/raw-control.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource, type ScriptOptions, STAGES, type Stage } from '../support/scripted-source.ts';
import { PIECE } from '../support/small-vm.ts';

interface Case {
  readonly name: string;
  readonly stage: Stage;
  readonly send: (source: ScriptedSource) => Uint8Array;
  readonly code?: ErrorCode;
  readonly phase?: Phase;
}

const PHASE: Readonly<Record<Stage, Phase>> = {
  connected: 'setup',
  'start-hook': 'setup',
  announced: 'setup',
  'setup-done': 'setup',
  ram: 'ram',
  registered: 'ram',
  written: 'ram',
  'ram-done': 'ram',
  device: 'device-state',
  'stream-done': 'device-state',
};

const register = (key: bigint, index: number, chunks: bigint): Uint8Array =>
  controlMessage('REGISTER_REQUEST', registerCommand({ key, index, chunks }));
const unregister = (key: bigint, index: number, chunks: bigint): Uint8Array =>
  controlMessage('UNREGISTER_REQUEST', registerCommand({ key, index, chunks }));
const compress = (value: number, index: number, offset: bigint, length: bigint): Uint8Array =>
  controlMessage('COMPRESS', compressCommand(value, index, offset, length));
const commands = (count: number): Buffer =>
  Buffer.concat(Array<Buffer>(count).fill(registerCommand({ key: 0n, index: 0, chunks: 0n })));

const MALFORMED: readonly Case[] = [
  { name: 'an unknown type', stage: 'setup-done', send: () => controlMessage(99) },
  { name: 'type 0', stage: 'ram', send: () => controlMessage(0) },
  { name: 'half a header', stage: 'ram', send: () => u32s(0, 9) },
  { name: 'no byte at all', stage: 'setup-done', send: () => new Uint8Array() },
  {
    name: 'a length below the data',
    stage: 'setup-done',
    send: () => controlMessage('QEMU_FILE', PIECE.start, { length: PIECE.start.length - 1 }),
  },
  {
    name: 'a length above the data',
    stage: 'setup-done',
    send: () => controlMessage('QEMU_FILE', PIECE.start, { length: 0xffffffff }),
  },
  { name: 'QEMU_FILE without bytes', stage: 'setup-done', send: () => controlMessage('QEMU_FILE') },
  {
    name: 'data where there is none',
    stage: 'start-hook',
    send: () => controlMessage('RAM_BLOCKS_REQUEST', Buffer.alloc(4)),
  },
  {
    name: 'repeat 0',
    stage: 'ram',
    send: () => controlMessage('REGISTER_REQUEST', commands(1), { repeat: 0 }),
  },
  {
    name: 'repeat 4097, and as many commands',
    stage: 'ram',
    send: () => controlMessage('REGISTER_REQUEST', commands(4097), { repeat: 4097 }),
  },
  {
    name: 'a repeat that is not the number of commands',
    stage: 'ram',
    send: () => controlMessage('REGISTER_REQUEST', commands(2), { repeat: 3 }),
  },
  {
    name: 'half a command',
    stage: 'ram',
    send: () => controlMessage('UNREGISTER_REQUEST', Buffer.alloc(36), { repeat: 1 }),
  },
  {
    name: 'COMPRESS of two ranges',
    stage: 'ram',
    send: () => controlMessage('COMPRESS', Buffer.alloc(48), { repeat: 2 }),
  },
];

const OUT_OF_BOUNDS: readonly Case[] = [
  { name: 'REGISTER in block 2 of 2', stage: 'ram', send: () => register(0n, 2, 0n) },
  { name: 'REGISTER in block 2^32-1', stage: 'ram', send: () => register(0n, 0xffffffff, 0n) },
  {
    name: 'REGISTER before its block',
    stage: 'ram',
    send: (source) => register(source.block(1).offset - 1n, 1, 0n),
  },
  {
    name: 'REGISTER behind its block',
    stage: 'ram',
    send: (source) => register(source.block(0).offset + source.block(0).length, 0, 0n),
  },
  { name: 'REGISTER at 2^64-1', stage: 'ram', send: () => register(2n ** 64n - 1n, 0, 0n) },
  { name: 'one chunk too many', stage: 'ram', send: (source) => register(source.block(0).offset, 0, 4n) },
  {
    name: '2^64-1 chunks',
    stage: 'ram',
    send: (source) => register(source.block(0).offset, 0, 2n ** 64n - 1n),
  },
  { name: 'UNREGISTER of chunk 4 of 4', stage: 'ram', send: () => unregister(4n, 0, 0n) },
  { name: 'UNREGISTER in block 2 of 2', stage: 'ram', send: () => unregister(0n, 2, 0n) },
  { name: 'COMPRESS of ones', stage: 'ram', send: (source) => compress(1, 0, source.block(0).offset, 4096n) },
  { name: 'COMPRESS in block 7', stage: 'ram', send: () => compress(0, 7, 0n, 4096n) },
  {
    name: 'COMPRESS of no byte',
    stage: 'ram',
    send: (source) => compress(0, 0, source.block(0).offset, 0n),
  },
  {
    name: 'COMPRESS one byte past the end',
    stage: 'ram',
    send: (source) => compress(0, 0, source.block(0).offset + 1n, source.block(0).length),
  },
  {
    name: 'COMPRESS that wraps around',
    stage: 'ram',
    send: (source) => compress(0, 0, source.block(0).offset + 4096n, 2n ** 64n - 4096n),
  },
  { name: 'COMPRESS at 2^64-1', stage: 'ram', send: () => compress(0, 0, 2n ** 64n - 1n, 1n) },
];

/** What is in turn at each stage; everything else is not. */
const IN_TURN: Readonly<Record<Stage, readonly TypeName[]>> = {
  connected: ['QEMU_FILE'],
  'start-hook': ['RAM_BLOCKS_REQUEST', 'REGISTER_FINISHED'],
  announced: ['COMPRESS', 'REGISTER_REQUEST', 'UNREGISTER_REQUEST', 'REGISTER_FINISHED'],
  'setup-done': ['QEMU_FILE'],
  ram: ['COMPRESS', 'REGISTER_REQUEST', 'UNREGISTER_REQUEST', 'REGISTER_FINISHED'],
  registered: ['COMPRESS', 'REGISTER_REQUEST', 'UNREGISTER_REQUEST', 'REGISTER_FINISHED'],
  written: ['COMPRESS', 'REGISTER_REQUEST', 'UNREGISTER_REQUEST', 'REGISTER_FINISHED'],
  'ram-done': ['QEMU_FILE'],
  device: ['QEMU_FILE'],
  'stream-done': ['QEMU_FILE', 'COMMIT'],
};

function example(type: TypeName): Uint8Array {
  if (type === 'QEMU_FILE') return controlMessage(type, PIECE.eos);
  if (type === 'RAM_BLOCKS_RESULT') return controlMessage(type, Buffer.alloc(32));
  if (type === 'COMPRESS') return compress(0, 0, 0n, 4096n);
  if (type === 'REGISTER_REQUEST' || type === 'UNREGISTER_REQUEST') return controlMessage(type, commands(1));
  if (type === 'REGISTER_RESULT') return controlMessage(type, Buffer.alloc(16));
  if (type === 'COMMIT') return controlMessage(type, Buffer.alloc(64));
  if (type === 'COMMITTED') return controlMessage(type, Buffer.alloc(4));
  return controlMessage(type);
}

const TYPES: readonly TypeName[] = [
  'READY',
  'QEMU_FILE',
  'RAM_BLOCKS_REQUEST',
  'RAM_BLOCKS_RESULT',
  'COMPRESS',
  'REGISTER_REQUEST',
  'REGISTER_RESULT',
  'REGISTER_FINISHED',
  'UNREGISTER_REQUEST',
  'UNREGISTER_FINISHED',
  'COMMIT',
  'COMMITTED',
];

// A COMMIT in the middle of the device state is in turn, and told as what it is: a truncated stream.
// A wrong first message is no failure of the destination: destination-strangers.test.ts.
const OUT_OF_TURN: readonly Case[] = STAGES.slice(1).flatMap((stage) =>
  TYPES.filter((type) => !IN_TURN[stage].includes(type) && !(type === 'COMMIT' && stage === 'device')).map(
    (type) => ({ name: `${type} at ${stage}`, stage, send: () => example(type) }),
  ),
);

async function refuses(
  { stage, send, code = 'PROTOCOL_ERROR', phase }: Case,
  options: ScriptOptions,
): Promise<void> {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port, options);
  await source.reach(stage);
  source.peer.send(send(source));
  await received.fails(code, phase ?? PHASE[stage]);
  expect(await source.farewell()).toEqual(['ERROR', 'end']);
}

describe('a destination refuses a malformed message:', () => {
  it.each(MALFORMED)('$name', (refused) => refuses(refused, { commit: true }));
});

describe('a destination refuses a request out of bounds:', () => {
  it.each(OUT_OF_BOUNDS)('$name', (refused) => refuses(refused, { commit: true }));
  it.each(OUT_OF_BOUNDS)('$name, with pin-all', (refused) => refuses(refused, { pinAll: true }));
});

describe('a destination refuses a message out of turn:', () => {
  it.each(OUT_OF_TURN)('$name', (refused) => refuses(refused, { commit: true }));

  it('COMMIT from a source that has not agreed on it', () =>
    refuses({ name: '', stage: 'device', send: () => example('COMMIT') }, { commit: false }));
});
