/** A destination of a version 1 source says "whole" only if that source accounted for every page. */
import { expect, it } from 'vitest';
import { inspect } from '../../lib/index.ts';
import { footer } from '../protocol/streams.ts';
import { compressCommand } from '../support/raw-control.ts';
import { withDeadline } from '../support/raw-iwarp.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { PIECE, SMALL_DEVICE_STATE } from '../support/small-vm.ts';

it('a v1 source that accounted for all but one page is not believed', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port);
  await source.reach('registered');
  const { address, offset, length } = source.block(0);
  await source.say('COMPRESS', compressCommand(0, 0, offset, 5n * 4096n));
  await source.ready();
  source.write(source.rkey, address + 6n * 4096n, Buffer.alloc(4096, 0x5a));
  await source.say('COMPRESS', compressCommand(0, 0, offset + 7n * 4096n, length - 7n * 4096n));
  await source.say('COMPRESS', compressCommand(0, 1, source.block(1).offset, 0x3000n));
  await source.say('REGISTER_FINISHED');
  await source.say('QEMU_FILE', Buffer.concat([PIECE.eos, PIECE.device]));
  const error = await received.fails('STREAM_TRUNCATED', 'device-state');
  expect(error.message).toContain(
    'did not account for 1 of the 784 pages of RAM block pc.ram (the first at byte 20480)',
  );
  expect(error.details).toEqual({ missingPages: 1n, blocks: 'pc.ram' });
});

it('a v1 source that accounted for no page at all is not believed', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port);
  await source.reach('ram');
  await source.say('REGISTER_FINISHED');
  await source.say('QEMU_FILE', Buffer.concat([PIECE.eos, PIECE.device]));
  await received.fails('STREAM_TRUNCATED', 'device-state');
});

it('a v1 source that asks for no blocks, and so can write none, is not believed', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port);
  await source.reach('start-hook');
  await source.say('REGISTER_FINISHED');
  await source.say('QEMU_FILE', Buffer.concat([PIECE.eos, PIECE.end]));
  await source.say('REGISTER_FINISHED');
  await source.say('QEMU_FILE', Buffer.concat([PIECE.eos, PIECE.device]));
  await received.fails(['STREAM_TRUNCATED', 'PROTOCOL_ERROR'], ['ram', 'device-state']);
});

it('a v1 source that accounted for every page, in WRITEs that are cut anywhere, is believed', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port, { pinAll: true });
  await source.reach('ram');
  for (const [index, { address, length, rkey }] of source.blocks.entries()) {
    for (let at = 0n; at < length; at += 70_001n) {
      const size = length - at < 70_001n ? length - at : 70_001n;
      source.write(rkey, address + at, Buffer.alloc(Number(size), index + 1));
    }
  }
  await source.say('REGISTER_FINISHED');
  await source.say('QEMU_FILE', Buffer.concat([PIECE.eos, PIECE.device]));
  source.peer.finish();
  const result = await withDeadline(received.result, 'the result');
  expect(result).toMatchObject({ outcome: 'unconfirmed', coverage: { state: 'whole', missing: 0 } });
});

it('a v1 source whose guest tells its free pages may leave some out, and the result says so', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port);
  await source.reach('registered');
  source.write(source.rkey, source.block(0).address, Buffer.alloc(8192, 0x5a));
  await source.say('REGISTER_FINISHED');
  const name = 'virtio-balloon-device/free-page-report';
  const hint = Buffer.concat([Buffer.of(5, name.length), Buffer.from(name), Buffer.alloc(12)]);
  const at = SMALL_DEVICE_STATE.indexOf(Buffer.alloc(100, 1));
  const state = Buffer.concat([SMALL_DEVICE_STATE.subarray(0, at), hint, SMALL_DEVICE_STATE.subarray(at)]);
  await source.say('QEMU_FILE', Buffer.concat([PIECE.eos, footer(), state]));
  source.peer.finish();
  const result = await withDeadline(received.result, 'the result');
  const missing = 0x31_0000 - 8192 + 0x3000;
  expect(result.coverage).toMatchObject({ state: 'with-gaps', missing });
  expect((await inspect(received.path)).provenance.coverage).toBe('with-gaps');
});
