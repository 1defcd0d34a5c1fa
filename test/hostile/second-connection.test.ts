/** A source that opens another connection before it says anything, as a QEMU with a return path does. */
import { expect, it, vi } from 'vitest';
import { Builder } from '../protocol/builder.ts';
import { beginning } from '../protocol/streams.ts';
import { privateData } from '../support/raw-control.ts';
import { RawPeer, withDeadline } from '../support/raw-iwarp.ts';
import { type Receiving, receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';

/** Asks for a connection. */
async function second({ port }: Receiving): Promise<RawPeer> {
  const peer = await RawPeer.tcp(port);
  const { flags } = await peer.request(privateData({}), {});
  expect(flags & 0x20).toBe(0);
  return peer;
}

it('is told of by its capability when it gives up without an answer, and the waiting goes on', async () => {
  await using received = await receiving();
  {
    await using source = await ScriptedSource.connect(received.port);
    await source.ready();
    await using _other = await second(received);
    source.peer.finish();
    await vi.waitFor(
      () =>
        expect(received.notices.join()).toContain(
          'the capability return-path, postcopy-ram or dirty-bitmaps on',
        ),
      10_000,
    );
  }
  await using source = await ScriptedSource.connect(received.port);
  await source.reach('device');
  await source.say('QEMU_FILE', source.restOfDeviceState());
  source.peer.finish();
  expect(await withDeadline(received.result, 'the result')).toMatchObject({ outcome: 'unconfirmed' });
});

it('is received all the same when it goes on', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port);
  await source.ready();
  await using _other = await second(received);
  await source.reach('device');
  await source.say('QEMU_FILE', source.restOfDeviceState());
  source.peer.finish();
  const result = await withDeadline(received.result, 'the result');
  expect(result).toMatchObject({ outcome: 'unconfirmed', coverage: { state: 'whole' } });
});

it('is not blamed for a second connection when it fails later', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port);
  await source.ready();
  await using _other = await second(received);
  await source.reach('start-hook');
  source.peer.finish();
  await received.fails('CONNECTION_LOST', 'setup');
});

it('needs none to be told apart when it gives up behind the command that opens its return path', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port);
  const command = new Builder().raw(beginning().bytes()).u8(8).u16(1).u16(0).bytes();
  await source.say('QEMU_FILE', command);
  await source.ready();
  await source.say('QEMU_FILE', new Builder().u8(8).u16(2).u16(4).u32(1).bytes());
  await source.ready();
  source.peer.finish();
  const error = await received.fails('STREAM_ERROR', 'setup');
  expect(error.message).toContain('the capability return-path');
});

it('is told what may be the reason when it gives up without a word', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port);
  await source.ready();
  source.peer.finish();
  await vi.waitFor(() => expect(received.notices.join()).toContain('It connected and said nothing'), 10_000);
});
