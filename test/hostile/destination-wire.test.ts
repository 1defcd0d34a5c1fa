/** A destination whose peer breaks the rules of iWARP. */
import { describe, expect, it } from 'vitest';
import type { ErrorCode, Phase } from '../../lib/index.ts';
import { controlMessage } from '../support/raw-control.ts';
import { fpdu, OPCODE, QUEUE, taggedSegment, untaggedSegment } from '../support/raw-frames.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource, type ScriptOptions, type Stage } from '../support/scripted-source.ts';
import { PIECE, SMALL_BLOCKS } from '../support/small-vm.ts';

interface Case {
  readonly name: string;
  readonly stage: Stage;
  readonly options?: ScriptOptions;
  readonly send: (source: ScriptedSource) => void;
  readonly code: ErrorCode | readonly ErrorCode[];
  readonly phase: Phase;
  /** layer/type/code of the TERMINATE (RFC 5040, 5041, 5044). */
  readonly told: string;
}

const page = Buffer.alloc(4096, 7);
const ram = SMALL_BLOCKS[0].length;
const access = { code: 'REMOTE_ACCESS_ERROR', phase: 'ram' } as const;
const wire = { code: 'WIRE_ERROR', phase: 'ram' } as const;
const pinAll = { commit: true, pinAll: true };
const send = (msn: number): Parameters<typeof untaggedSegment>[0] => ({
  opcode: OPCODE.send,
  queue: QUEUE.send,
  msn,
});

const WRITES: readonly Case[] = [
  {
    name: 'a WRITE before any registration',
    stage: 'announced',
    send: (s) => s.peer.write(0x1234, s.block(0).address, page),
    ...access,
    phase: 'setup',
    told: '1/1/0',
  },
  {
    name: 'a WRITE before there are blocks',
    stage: 'start-hook',
    send: (s) => s.peer.write(0, 0n, page),
    ...access,
    phase: 'setup',
    told: '1/1/0',
  },
  {
    name: 'a WRITE to an STag next to a known one',
    stage: 'registered',
    send: (s) => s.peer.write((s.rkey + 1) >>> 0, s.block(0).address, page),
    ...access,
    told: '1/1/0',
  },
  {
    name: 'a WRITE past the end of what is registered, inside the block',
    stage: 'registered',
    send: (s) => s.peer.write(s.rkey, s.block(0).address + (2n << 20n) - 4095n, page),
    ...access,
    told: '1/1/1',
  },
  {
    name: 'a WRITE before the beginning of its region',
    stage: 'registered',
    send: (s) => s.peer.write(s.rkey, s.block(0).address - 1n, page),
    ...access,
    told: '1/1/1',
  },
  {
    name: 'a WRITE past the end of the block, with pin-all',
    stage: 'ram',
    options: pinAll,
    send: (s) => s.peer.write(s.block(0).rkey, s.block(0).address + ram - 4095n, page),
    ...access,
    told: '1/1/1',
  },
  {
    name: 'a WRITE that wraps around',
    stage: 'ram',
    options: pinAll,
    send: (s) => s.peer.write(s.block(0).rkey, 2n ** 64n - 100n, page),
    ...access,
    told: '1/1/3',
  },
  {
    name: 'a WRITE to another block with the wrong key',
    stage: 'ram',
    options: pinAll,
    send: (s) => s.peer.write(s.block(1).rkey, s.block(0).address, page),
    ...access,
    told: '1/1/1',
  },
];

const SEGMENTS: readonly Case[] = [
  {
    name: 'a message that is longer than any RECV',
    stage: 'ram',
    send: (s) => s.peer.send(controlMessage('QEMU_FILE', Buffer.alloc((512 << 10) + 1))),
    ...wire,
    told: '1/2/5',
  },
  {
    name: 'a message number that is not due',
    stage: 'ram',
    send: (s) => s.peer.send(controlMessage('REGISTER_FINISHED'), { msn: 99 }),
    ...wire,
    told: '1/2/3',
  },
  {
    name: 'a SEND on the queue of READs',
    stage: 'ram',
    send: (s) => s.peer.send(controlMessage('REGISTER_FINISHED'), { queue: QUEUE.readRequest }),
    ...wire,
    told: '1/2/1',
  },
  {
    name: 'a segment that does not continue the one before',
    stage: 'start-hook',
    send: (s) => {
      s.peer.frame(untaggedSegment({ ...send(2), last: false }, page));
      s.peer.frame(untaggedSegment({ ...send(2), offset: 8192 }, page));
    },
    ...wire,
    phase: 'setup',
    told: '1/2/4',
  },
  {
    name: 'an FPDU without room for a header',
    stage: 'ram',
    send: (s) => s.peer.frame(Buffer.alloc(3)),
    ...wire,
    told: '2/0/3',
  },
  {
    name: 'an opcode that does not exist',
    stage: 'ram',
    send: (s) => s.peer.frame(untaggedSegment({ ...send(6), opcode: 0xf }, page)),
    ...wire,
    told: '0/2/6',
  },
  {
    name: 'DDP version 2',
    stage: 'ram',
    send: (s) => {
      const segment = taggedSegment(0, 0n, page, true);
      segment[0] = 0xc2;
      s.peer.frame(segment);
    },
    ...wire,
    told: '1/1/4',
  },
  {
    name: 'a READ of RAM that may only be written',
    stage: 'registered',
    send: (s) => {
      const read = Buffer.alloc(28);
      read.writeUInt32BE(1, 0);
      read.writeUInt32BE(4096, 12);
      read.writeUInt32BE(s.rkey, 16);
      read.writeBigUInt64BE(s.block(0).address, 20);
      s.peer.frame(untaggedSegment({ opcode: OPCODE.readRequest, queue: QUEUE.readRequest, msn: 1 }, read));
    },
    ...access,
    told: '0/1/2',
  },
];

async function terminates({ stage, options, send: sends, code, phase, told }: Case): Promise<void> {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port, options ?? { commit: true });
  await source.reach(stage);
  sends(source);
  await received.fails(code, phase);
  expect(await source.farewell()).toEqual([`TERMINATE ${told}`, 'end']);
}

describe('a destination terminates the connection at', () => {
  it.each(WRITES)('$name', terminates);
  it.each(SEGMENTS)('$name', terminates);

  it('a CRC that does not fit', () =>
    terminates({
      name: '',
      stage: 'registered',
      options: { commit: true, crc: true },
      send: (s) => {
        s.peer.raw(fpdu(taggedSegment(s.rkey, s.block(0).address, page, true), false));
      },
      code: 'CRC_ERROR',
      phase: 'ram',
      told: '2/0/2',
    }));

  it('a key that has been unregistered', async () => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, { commit: true });
    await source.reach('registered');
    await source.say('UNREGISTER_REQUEST', Buffer.alloc(24));
    await source.expect('UNREGISTER_FINISHED');
    await source.ready();
    source.peer.write(source.rkey, source.block(0).address, page);
    await received.fails('REMOTE_ACCESS_ERROR', 'ram');
    expect(await source.farewell()).toEqual(['TERMINATE 1/1/0', 'end']);
  });
});

it('a flood of messages without READY ends the migration', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port, { commit: true });
  await source.reach('connected');
  for (const byte of PIECE.start) source.peer.send(controlMessage('QEMU_FILE', Buffer.of(byte)));
  await received.fails(['PROTOCOL_ERROR', 'WIRE_ERROR'], 'setup');
});

it('a TERMINATE of the peer ends the migration, named', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port, { commit: true });
  await source.reach('ram');
  source.peer.terminate(1, 1, 0);
  const error = await received.fails('TERMINATE_RECEIVED', 'ram');
  expect(error.message).toMatch(/invalid STag/);
});
