/** Peers that do a little now and then: neither end waits for them longer than it was told. */
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { honestMigration } from '../support/honest-source.ts';
import { PATIENCE_MS } from '../support/patience.ts';
import { controlMessage, privateData } from '../support/raw-control.ts';
import { fpdu, taggedSegment, untaggedSegment } from '../support/raw-frames.ts';
import type { RawPeer } from '../support/raw-iwarp.ts';
import { RawListener } from '../support/raw-listener.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { smallImage, sourceFails } from '../support/sending.ts';
import { PIECE } from '../support/small-vm.ts';
import { temporaryFolder } from '../support/temp.ts';

const EVERY_MS = 50;
/** Many times the pause above; the deadlines of the tests are many times this. */
const LIMITS = { responseTimeoutMs: PATIENCE_MS, commitTimeoutMs: PATIENCE_MS };

/** One byte after the other of a message that would take far longer than is waited. */
function* bytesOf(message: Uint8Array): Generator<(peer: RawPeer) => void> {
  const header = { opcode: 3, queue: 0, msn: 1 };
  for (const byte of fpdu(untaggedSegment(header, message), false)) yield (peer) => peer.raw(Buffer.of(byte));
}

function* forever(deed: (peer: RawPeer) => void): Generator<(peer: RawPeer) => void> {
  for (;;) yield deed;
}

async function meanwhile(
  peer: RawPeer,
  deeds: Generator<(peer: RawPeer) => void>,
  body: () => Promise<unknown>,
): Promise<void> {
  const timer = setInterval(() => deeds.next().value?.(peer), EVERY_MS);
  try {
    await body();
  } finally {
    clearInterval(timer);
  }
}

describe.concurrent('a destination in the middle of RAM does not wait for a source that', () => {
  it('writes a byte now and then', async () => {
    await using received = await receiving(LIMITS);
    await using source = await ScriptedSource.connect(received.port, { commit: true });
    await source.reach('registered');
    const { address } = source.block(0);
    const deed = (peer: RawPeer) => peer.write(source.rkey, address, Buffer.of(1));
    await meanwhile(source.peer, forever(deed), () => received.fails('TIMEOUT', 'ram'));
  });

  it('sends empty WRITEs', async () => {
    await using received = await receiving(LIMITS);
    await using source = await ScriptedSource.connect(received.port, { commit: true });
    await source.reach('registered');
    const deed = (peer: RawPeer) => peer.frame(taggedSegment(0, 0n, Buffer.alloc(0), true));
    await meanwhile(source.peer, forever(deed), () => received.fails('TIMEOUT', 'ram'));
  });

  it('sends a message in segments without an end', async () => {
    await using received = await receiving(LIMITS);
    await using source = await ScriptedSource.connect(received.port, { commit: true });
    await source.reach('start-hook');
    let offset = 0;
    const deed = (peer: RawPeer) => {
      const header = { opcode: 3, queue: 0, msn: 2, offset: offset++, last: false };
      peer.frame(untaggedSegment(header, Buffer.of(1)));
    };
    await meanwhile(source.peer, forever(deed), () => received.fails('TIMEOUT', 'setup'));
  });
});

it.concurrent('a destination waits for a source that is slow, but not as slow as that', async () => {
  await using received = await receiving(LIMITS);
  await using source = await ScriptedSource.connect(received.port, { commit: true });
  await source.reach('registered');
  const { address } = source.block(0);
  // Three times as long as is waited in silence, at some kibibytes a second.
  for (let part = 0; part < (3 * PATIENCE_MS) / EVERY_MS; part++) {
    source.write(source.rkey, address, Buffer.alloc(512, part));
    await new Promise((resolve) => setTimeout(resolve, EVERY_MS));
  }
  await source.reach('stream-done');
  await source.say('COMMIT', source.account.commit());
  await source.expect('COMMITTED');
  await received.result;
});

describe.concurrent('a source does not wait for a destination that', () => {
  let folder: Awaited<ReturnType<typeof temporaryFolder>>;
  let image: string;
  beforeAll(async () => {
    folder = await temporaryFolder();
    image = await smallImage(join(folder.path, 'vm'));
  });
  afterAll(() => folder[Symbol.asyncDispose]());

  const READY = controlMessage('READY', Buffer.alloc(0));
  const TRICKLES = [
    { name: 'says READY byte by byte', deeds: () => bytesOf(READY) },
    {
      name: 'sends empty WRITEs',
      deeds: () => forever((peer) => peer.frame(taggedSegment(0, 0n, Buffer.alloc(0), true))),
    },
  ];
  it.each(TRICKLES)('$name', async ({ deeds }) => {
    await using listener = await RawListener.open();
    const failing = sourceFails(image, listener.uri, 'TIMEOUT', 'setup', LIMITS);
    await using peer = await listener.accept();
    peer.reply(await peer.awaitRequest(), privateData({ commit: true }));
    await meanwhile(peer, deeds(), () => failing);
  });
});

describe.concurrent('a migration that always goes on ends at the total limit', () => {
  it('at the destination, counted from the source’s first message', async () => {
    await using received = await receiving({ totalTimeoutMs: PATIENCE_MS });
    // Waiting for a source does not count.
    await new Promise((resolve) => setTimeout(resolve, PATIENCE_MS + 500));
    await using source = await ScriptedSource.connect(received.port, { commit: true });
    await source.reach('registered');
    const { address } = source.block(0);
    const deed = (peer: RawPeer) => peer.write(source.rkey, address, Buffer.alloc(4096));
    await meanwhile(source.peer, forever(deed), async () => {
      const { message, details } = await received.fails('TIMEOUT', 'ram');
      expect(message).toContain(`${PATIENCE_MS / 1000} s in all`);
      expect(details).toMatchObject({ totalTimeoutMs: PATIENCE_MS });
    });
    expect((await source.farewell()).at(-1)).toBe('end');
  });

  it('at the source', async () => {
    await using folder = await temporaryFolder();
    const image = await smallImage(join(folder.path, 'vm'));
    await using listener = await RawListener.open();
    const failing = sourceFails(image, listener.uri, 'TIMEOUT', 'setup', { totalTimeoutMs: PATIENCE_MS });
    await using peer = await listener.accept();
    peer.reply(await peer.awaitRequest(), privateData({ commit: true }));
    expect((await failing).message).toContain(`${PATIENCE_MS / 1000} s in all`);
  });
});

it.concurrent('a destination lets no message of the handshake take longer than a message may', async () => {
  await using received = await receiving(LIMITS);
  await using peer = await ScriptedSource.connect(received.port, { commit: true });
  await meanwhile(peer.peer, bytesOf(controlMessage('QEMU_FILE', PIECE.start)), () => peer.farewell());
  await honestMigration(received);
  expect(received.notices).toHaveLength(1);
});
