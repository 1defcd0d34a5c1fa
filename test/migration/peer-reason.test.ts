/** What an end learns of why its peer failed, in the middle of RAM. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import {
  ImageWriter,
  MigrationDestination,
  type MigrationError,
  type MigrationProgress,
  MigrationSource,
  openImage,
} from '../../lib/index.ts';
import { MIB, syntheticImage } from '../support/images.ts';
import { controlMessage, parseControl } from '../support/raw-control.ts';
import { expectError, failureOf, receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { temporaryFolder } from '../support/temp.ts';

const folder = await temporaryFolder();
const image = join(folder.path, 'vm');
beforeAll(async () => {
  await (await syntheticImage(image, [{ name: 'pc.ram', length: 64n * MIB, fill: 'random' }])).close();
});
afterAll(() => folder[Symbol.asyncDispose]());

/** Cancels one end while WRITEs are under way; the errors of both. */
async function cancelled(
  who: 'source' | 'destination',
  maxBandwidth: bigint,
): Promise<{ source: MigrationError; destination: MigrationError }> {
  await using vm = await openImage(image);
  await using target = await ImageWriter.open(join(folder.path, `arrived-${who}-${maxBandwidth}`));
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target);
  const stop = new AbortController();
  const signalOf = (end: typeof who) => (end === who ? { signal: stop.signal } : {});
  const source = new MigrationSource(vm, destination.uri, { maxBandwidth });
  const ends = Promise.all([
    failureOf(source.migrate(signalOf('source')), 'the source'),
    failureOf(destination.receive(signalOf('destination')), 'the destination'),
  ]);
  await untilWriting(source.progress(5));
  stop.abort();
  const [sent, received] = await ends;
  return { source: sent, destination: received };
}

async function untilWriting(progress: AsyncIterable<MigrationProgress>): Promise<void> {
  for await (const { ram } of progress) if (ram['normal-bytes'] > 0) return;
  throw new Error('no RAM has moved');
}

describe.each([
  { speed: 'slowly', maxBandwidth: 4n * MIB },
  { speed: 'at full speed', maxBandwidth: 0n },
])('while WRITEs arrive $speed', ({ maxBandwidth }) => {
  it('a cancel of the destination reads as one at the source', async () => {
    const { source, destination } = await cancelled('destination', maxBandwidth);
    expectError(destination, 'CANCELLED', 'ram');
    expectError(source, 'PEER_ERROR', 'ram');
    expect(source.message).toMatch(/^the migration was cancelled at the destination \(127\.0\.0\.1:\d+\)$/);
    expect(source.details).toMatchObject({ peerCode: 'CANCELLED', peerPhase: 'ram' });
  });

  it('a cancel of the source reads as one at the destination', async () => {
    const { source, destination } = await cancelled('source', maxBandwidth);
    expectError(source, 'CANCELLED', 'ram');
    expectError(destination, 'PEER_ERROR', 'ram');
    expect(destination.message).toMatch(/^the migration was cancelled at the source \(127\.0\.0\.1:\d+\)$/);
    expect(destination.details).toMatchObject({ peerCode: 'CANCELLED', peerPhase: 'ram' });
  });
});

it.each([true, false])(
  'a source without the extension gets QEMU’s empty ERROR, commit %s',
  async (commit) => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, { commit });
    await source.reach('ram');
    source.peer.send(controlMessage('COMMITTED', Buffer.alloc(4)));
    await received.fails('PROTOCOL_ERROR', 'ram');
    for (;;) {
      const event = await source.peer.next('the ERROR');
      if (event.kind !== 'send') continue;
      const { type, data } = parseControl(event.message);
      if (type !== 'ERROR') continue;
      expect(data).toHaveLength(0);
      return;
    }
  },
);

it('the words of a hostile peer are shown without what a terminal would obey', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port, { commit: true });
  await source.reach('ram');
  const reason = Buffer.concat([
    Buffer.from('\u0005EVIL!\u0003ram'),
    Buffer.from('\u001b[2J\u202Egone\nroot# '),
  ]);
  source.peer.send(controlMessage('ERROR', reason));
  const error = await received.fails('PEER_ERROR', 'ram');
  expect(error.message).toMatch(
    /^the migration failed at the source \(.*\): \[2J gone root# \(there phase ram\)$/,
  );
  expect(error.details).toEqual({ peerPhase: 'ram', peerMessage: '[2J gone root#' });
});

it('an ERROR with data that is no reason is an ERROR all the same', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port, {});
  await source.reach('ram');
  source.peer.send(controlMessage('ERROR', Buffer.alloc(100_000, 0x41)));
  const error = await received.fails('PEER_ERROR', 'ram');
  expect(error.details).toEqual({});
});
