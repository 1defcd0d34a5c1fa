/** Whoever connects to a tunnel may say anything: at worst its own stream is reset, and the tunnel serves the next. */
import { setTimeout as delay } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { native } from '../../lib/native/index.ts';
import type { NativeConnection } from '../../lib/native/transport.ts';
import { requestCapabilities } from '../../lib/protocol/capabilities.ts';
import { parseRdmaUri } from '../../lib/protocol/uri.ts';
import { Writer } from '../../lib/protocol/writer.ts';
import { encodeHello, type Hello, VERSION } from '../../lib/tunnel/hello.ts';
import { OPENINGS_OF_ONE_HOST } from '../../lib/tunnel/openings.ts';
import { decodeRing, encodeRing, type Ring } from '../../lib/tunnel/ring.ts';
import { openDomain } from '../../lib/verbs/index.ts';
import { Ends, readAll } from '../tunnel/ends.ts';

const OPTIONS = { crc: false, connectTimeoutMs: 5_000, stallTimeoutMs: 5_000 };
const RING = 65_536;
const HELLO: Hello = { version: VERSION, status: 'welcome', softwareRnic: true, tls: false, unchecked: true };
const MY_RING: Ring = { bytes: RING, rkey: 0x1234, silenceMs: 5_000, address: 0x10_0000n };

interface Said {
  readonly kind?: number;
  readonly flags?: number;
  readonly taken?: number;
  readonly written?: bigint;
  readonly consumed?: bigint;
}

const state = ({ kind = 2, flags = 0, taken = 0, written = 0n, consumed = 0n }: Said): Uint8Array =>
  new Writer(32).u32(kind).u32(flags).u32(taken).u32(0).u64(written).u64(consumed).finish();

describe('a tunnel and a peer that', () => {
  let ends: Ends;
  let peer: NativeConnection | undefined;
  beforeEach(async () => {
    const destination = { ringBytes: RING, responseTimeoutMs: 1_000, connectTimeoutMs: 500 };
    ends = await Ends.open({ destination });
  });
  afterEach(async () => {
    await peer?.close();
    peer = undefined;
    await ends[Symbol.asyncDispose]();
  });

  const dial = async (privateData: Uint8Array): Promise<NativeConnection> => {
    peer = native.createConnection('iwarp', OPTIONS);
    await peer.connect(parseRdmaUri(ends.destination.uri), privateData);
    return peer;
  };

  /** A stream that has begun; gives the destination's ring. */
  const begin = async (): Promise<{ connection: NativeConnection; ring: Ring }> => {
    const connection = await dial(encodeHello(HELLO));
    await connection.send(encodeRing(MY_RING));
    const message = await connection.receive();
    await ends.far();
    return { connection, ring: decodeRing(message as Uint8Array) };
  };

  const stillServes = async (): Promise<void> => {
    const near = await ends.near();
    near.end('honest');
    const far = await ends.far();
    far.end();
    expect(String(await readAll(far))).toBe('honest');
  };

  it.each<[string, Said]>([
    ['says that it has written more than fits', { written: BigInt(RING) + 1n }],
    ['says that it has written 2^64-1 bytes', { written: 2n ** 64n - 1n }],
    ['has consumed what it was not sent', { consumed: 1n }],
    ['answers messages that it was not sent', { taken: 7 }],
    ['sets flags that nobody knows', { flags: 0x80 }],
    ['has delivered an end that was not', { flags: 2 }],
    ['says messages of an unknown kind', { kind: 9 }],
  ])('%s', async (_, said) => {
    const { connection } = await begin();
    await connection.send(state(said));
    expect((await ends.told.destination.end()).error?.code).toBe('PROTOCOL_ERROR');
    await stillServes();
  });

  it.each([0, 1, 31, 33, 4096, 500_000])('says a message of %d bytes', async (length) => {
    const { connection } = await begin();
    await connection.send(new Uint8Array(length));
    expect((await ends.told.destination.end()).error?.code).toBe('PROTOCOL_ERROR');
    await stillServes();
  });

  it('takes back what it has said', async () => {
    const { connection } = await begin();
    await connection.send(state({ written: 100n }));
    await connection.send(state({ written: 99n }));
    expect((await ends.told.destination.end()).error?.code).toBe('PROTOCOL_ERROR');
  });

  it('writes on after its end', async () => {
    const { connection } = await begin();
    await connection.send(state({ written: 1n, flags: 1 }));
    await connection.send(state({ written: 2n, flags: 1 }));
    expect((await ends.told.destination.end()).error?.code).toBe('PROTOCOL_ERROR');
  });

  it('floods it with messages', async () => {
    const { connection } = await begin();
    const flood = async (): Promise<void> => {
      for (let i = 0; i < 10_000; i++) await connection.send(state({}));
    };
    await flood().catch(() => {});
    const { error } = await ends.told.destination.end();
    expect(error?.code).toMatch(/^(PROTOCOL_ERROR|WIRE_ERROR|CONNECTION_LOST)$/);
    await stillServes();
  });

  it.each([
    ['past the end of the ring', (ring: Ring) => ring.address + BigInt(ring.bytes) - 1n],
    ['before it', (ring: Ring) => ring.address - 1n],
    ['far away', () => 2n ** 64n - 16n],
  ])('writes %s', async (_, where) => {
    await using domain = await openDomain({ provider: 'iwarp' });
    const queuePair = domain.createQueuePair();
    const outgoing = new Uint8Array(4096);
    const region = await domain.registerMemory(outgoing);
    const incoming = new Uint8Array(4096);
    const inbox = await domain.registerMemory(incoming);
    queuePair.postRecv([{ wrId: 1n, addr: inbox.addr, length: 4096, lkey: inbox.lkey }]);
    await queuePair.connect(parseRdmaUri(ends.destination.uri), { privateData: encodeHello(HELLO) });
    outgoing.set(encodeRing(MY_RING));
    queuePair.postSend([{ wrId: 2n, opcode: 'SEND', addr: region.addr, length: 24, lkey: region.lkey }]);
    await ends.far();
    while (incoming[3] === 0) await delay(5);
    const ring = decodeRing(incoming.subarray(0, 24));
    const to = { remoteAddr: where(ring), rkey: ring.rkey };
    queuePair.postSend([
      { wrId: 3n, opcode: 'RDMA_WRITE', addr: region.addr, length: 16, lkey: region.lkey, ...to },
    ]);
    expect((await ends.told.destination.end()).error?.code).toMatch(/REMOTE_ACCESS_ERROR|WIRE_ERROR/);
    await stillServes();
  });

  it.each<[string, Partial<Ring>]>([
    ['a ring without bytes', { bytes: 0 }],
    ['a ring beyond the end of memory', { address: 2n ** 64n - 4096n }],
    ['a ring of 4 GiB', { bytes: 2 ** 32 - 1 }],
  ])('offers %s', async (_, wrong) => {
    const connection = await dial(encodeHello(HELLO));
    await connection.send(encodeRing({ ...MY_RING, ...wrong }));
    expect((await ends.told.destination.refusal()).code).toBe('PROTOCOL_ERROR');
    await stillServes();
  });

  it('begins with something else than a ring', async () => {
    const connection = await dial(encodeHello(HELLO));
    await connection.send(new Uint8Array(24));
    expect((await ends.told.destination.refusal()).code).toBe('PROTOCOL_ERROR');
    await stillServes();
  });

  it('connects and says nothing: it costs no local connection, and gives way', async () => {
    const quiet = await Promise.all(
      Array.from({ length: 3 * OPENINGS_OF_ONE_HOST }, async () => {
        // They wait for their turn.
        const connection = native.createConnection('iwarp', { ...OPTIONS, connectTimeoutMs: 60_000 });
        await connection.connect(parseRdmaUri(ends.destination.uri), encodeHello(HELLO));
        return connection;
      }),
    );
    await stillServes();
    expect((await ends.told.destination.refusal()).code).toBe('TIMEOUT');
    await Promise.all(quiet.map((connection) => connection.close()));
  });

  it('falls silent in the middle of a stream', async () => {
    await begin();
    expect((await ends.told.destination.end()).error?.code).toBe('TIMEOUT');
    await stillServes();
  });

  it.each<[string, Uint8Array]>([
    ['a migration', requestCapabilities({ pinAll: false, commit: true })],
    ['nothing', new Uint8Array()],
    ['a damaged hello', encodeHello(HELLO).map((byte, at) => (at === 9 ? byte ^ 1 : byte))],
  ])('speaks %s', async (_, privateData) => {
    await expect(dial(privateData)).rejects.toThrow();
    expect((await ends.told.destination.refusal()).code).toBe('PROTOCOL_ERROR');
    await stillServes();
  });

  it('has another version', async () => {
    await expect(dial(encodeHello({ ...HELLO, version: 9 }))).rejects.toMatchObject({ code: 'REJECTED' });
    await stillServes();
  });
});
