/** Peers that come as sources do and are none: they keep nobody out, and nobody waiting. */
import { describe, expect, it } from 'vitest';
import { finishMigration, honestMigration } from '../support/honest-source.ts';
import { PATIENCE_MS } from '../support/patience.ts';
import { controlMessage, privateData } from '../support/raw-control.ts';
import { MPA_FLAG, mpaFrame, taggedSegment, untaggedSegment } from '../support/raw-frames.ts';
import { RawPeer, withDeadline } from '../support/raw-iwarp.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { PIECE } from '../support/small-vm.ts';

/** An MPA request with peer-to-peer setup (RFC 6581, section 9): after the reply a ready-to-receive message is due. */
function peerToPeerRequest(): Buffer {
  const frame = mpaFrame({
    kind: 'request',
    flags: MPA_FLAG.enhanced,
    revision: 2,
    privateData: privateData({ commit: true }),
  });
  // IRD 1 with the bit for peer-to-peer, ORD 1 with those for an empty WRITE and READ.
  frame.writeUInt16BE(0x8001, 20);
  frame.writeUInt16BE(0xc001, 22);
  return frame;
}

async function stranger(port: number): Promise<RawPeer> {
  const peer = await RawPeer.tcp(port);
  expect((await peer.request(privateData({ commit: true }))).flags & MPA_FLAG.reject).toBe(0);
  return peer;
}

/** A listener has room for fewer that have not sent their request. */
async function oneByOne<T>(count: number, make: () => Promise<T>): Promise<T[]> {
  const made: T[] = [];
  while (made.length < count) made.push(await make());
  return made;
}

const LEAVING: readonly { name: string; does: (peer: RawPeer) => void }[] = [
  { name: 'goes away in good order', does: (peer) => peer.finish() },
  { name: 'is killed', does: (peer) => peer.kill() },
  { name: 'says ERROR', does: (peer) => peer.send(controlMessage('ERROR')) },
  {
    name: 'asks for RAM blocks at once',
    does: (peer) => peer.send(controlMessage('RAM_BLOCKS_REQUEST')),
  },
  { name: 'says READY', does: (peer) => peer.send(controlMessage('READY')) },
  { name: 'says COMMIT', does: (peer) => peer.send(controlMessage('COMMIT', Buffer.alloc(60))) },
  { name: 'says nothing with its first message', does: (peer) => peer.send(new Uint8Array()) },
  { name: 'says an unknown type', does: (peer) => peer.send(controlMessage(99)) },
  {
    name: 'says a length that does not fit',
    does: (peer) => peer.send(controlMessage('QEMU_FILE', PIECE.start, { length: PIECE.start.length - 1 })),
  },
  { name: 'writes', does: (peer) => peer.write(1, 0n, Buffer.alloc(100)) },
  {
    name: 'ends inside a message',
    does: (peer) => {
      const header = { opcode: 3, queue: 0, msn: 1, last: false };
      peer.raw(Buffer.concat([Buffer.of(0x40, 0x00), untaggedSegment(header, Buffer.alloc(100))]));
      peer.finish();
    },
  },
];

describe('a destination drops a connected peer, says so, and takes the next source, when the peer', () => {
  it.each(LEAVING)('$name', async ({ does }) => {
    await using received = await receiving();
    await using peer = await stranger(received.port);
    does(peer);
    await peer.untilEnd();
    await honestMigration(received);
    expect(received.notices).toEqual([expect.stringMatching(/^refused 127\.0\.0\.1:\d+: ./)]);
  });

  it('says nothing for longer than is waited', async () => {
    await using received = await receiving({ responseTimeoutMs: PATIENCE_MS });
    await using peer = await stranger(received.port);
    await peer.untilEnd();
    await honestMigration(received);
    expect(received.notices).toEqual([expect.stringContaining('the source’s first message')]);
  });

  it('sends bytes that are no message, again and again', async () => {
    await using received = await receiving({ responseTimeoutMs: PATIENCE_MS });
    await using peer = await stranger(received.port);
    const trickle = setInterval(() => peer.frame(taggedSegment(0, 0n, Buffer.alloc(0), true)), 50);
    try {
      await peer.untilEnd();
    } finally {
      clearInterval(trickle);
    }
    await honestMigration(received);
  });

  it('asks for peer-to-peer setup and does not go on with it', async () => {
    await using received = await receiving({ connectTimeoutMs: PATIENCE_MS });
    await using peer = await RawPeer.tcp(received.port);
    peer.raw(peerToPeerRequest());
    await peer.mpa('reply');
    await peer.untilEnd();
    await honestMigration(received);
    expect(received.notices).toEqual([expect.stringContaining('ready-to-receive')]);
  });
});

/** Peers that the software RNIC lets in side by side, where the process may have 2048 files open or more. */
const AT_ONCE = 256;

describe('a source is served while strangers are let in:', () => {
  it('three that do not go on with peer-to-peer setup', async () => {
    await using received = await receiving({ connectTimeoutMs: 60_000 });
    const strangers = await Promise.all([1, 2, 3].map(() => RawPeer.tcp(received.port)));
    for (const peer of strangers) {
      peer.raw(peerToPeerRequest());
      await peer.mpa('reply');
    }
    await honestMigration(received);
    for (const peer of strangers) await peer[Symbol.asyncDispose]();
  });

  it('three that are connected and say nothing', async () => {
    await using received = await receiving({ responseTimeoutMs: 60_000 });
    const strangers = await Promise.all([1, 2, 3].map(() => stranger(received.port)));
    await honestMigration(received);
    // They are told that they are not served.
    for (const peer of strangers) expect((await peer.untilEnd()).at(-1)?.kind).toMatch(/end|broken/);
    for (const peer of strangers) await peer[Symbol.asyncDispose]();
  });

  it('as many as are let in at once, connected and silent: they give way', async () => {
    await using received = await receiving({ responseTimeoutMs: 60_000 });
    const strangers = await oneByOne(AT_ONCE, () => stranger(received.port));
    await honestMigration(received);
    expect(received.notices).toContainEqual(expect.stringContaining('others wait'));
    for (const peer of strangers) await peer[Symbol.asyncDispose]();
  });

  it('as many as are let in at once, in the middle of a handshake that does not go on: they give way', async () => {
    await using received = await receiving({ responseTimeoutMs: 60_000, connectTimeoutMs: 60_000 });
    const strangers = await oneByOne(AT_ONCE, async () => {
      const peer = await RawPeer.tcp(received.port);
      peer.raw(peerToPeerRequest());
      await peer.mpa('reply');
      return peer;
    });
    await honestMigration(received);
    expect(received.notices).toContainEqual(expect.stringContaining('others wait'));
    for (const peer of strangers) await peer[Symbol.asyncDispose]();
  });

  it('more than are let in at once: it waits for its turn and is not refused', async () => {
    await using received = await receiving({ responseTimeoutMs: 1_500 });
    const strangers = await oneByOne(AT_ONCE, () => stranger(received.port));
    // Few: of one address 32 may wait for an answer.
    for (let more = 0; more < 4; more++) {
      const peer = await RawPeer.tcp(received.port);
      peer.request(privateData({ commit: true })).catch(() => {});
      strangers.push(peer);
    }
    await honestMigration(received);
    for (const peer of strangers) await peer[Symbol.asyncDispose]();
  });
});

it('of two sources the first that speaks is served, and the other is sent away', async () => {
  await using received = await receiving();
  await using second = await ScriptedSource.connect(received.port, { commit: true });
  await using first = await ScriptedSource.connect(received.port, { commit: true });
  await second.expect('READY');
  await first.reach('start-hook');
  expect(await second.farewell()).toEqual(['ERROR', 'end']);
  await finishMigration(received, first);
});

it('a cancel while strangers are let in ends the wait, and they are sent away', async () => {
  await using received = await receiving({ responseTimeoutMs: 60_000, connectTimeoutMs: 60_000 });
  await using silent = await stranger(received.port);
  await using slow = await RawPeer.tcp(received.port);
  slow.raw(peerToPeerRequest());
  await slow.mpa('reply');
  await withDeadline(received.destination.close(), 'close()');
  await received.fails('CANCELLED', 'listen');
  expect((await silent.untilEnd()).at(-1)?.kind).toMatch(/end|broken/);
  expect((await slow.untilEnd()).at(-1)?.kind).toMatch(/end|broken/);
});
