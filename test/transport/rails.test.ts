/** Native connections with several queue pairs, and requests that are answered without one. */
import { readdirSync } from 'node:fs';
import { connect } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { native } from '../../lib/native/index.ts';
import { ACCESS, type NativeConnection } from '../../lib/native/transport.ts';
import { type IncomingConnection, Listener, connect as openConnection } from '../../lib/transport/connect.ts';
import type { Connection } from '../../lib/transport/connection.ts';
import { failure } from '../memory/support.ts';
import { RawPeer } from '../support/raw-iwarp.ts';
import { NativePair, NOTHING, OPTIONS, Requests } from './native-pair.ts';

const BYTES = 64n << 20n;
const PAGES = Number(BYTES / 4096n);

/** Writes all pages of one memfd into another, and waits until they are there. */
async function write(source: NativeConnection, destination: NativeConnection): Promise<string[]> {
  const from = await native.mapMemfd({ name: 'rails-from', length: BYTES });
  const to = await native.mapMemfd({ name: 'rails-to', length: BYTES });
  const reader = native.createPageReader([{ name: 'block', mapping: from }]);
  await reader.push(records(), 0);
  const spans = BigUint64Array.of(0n, BYTES);
  const [lkey = 0] = await source.registerSpans(from, spans, 0);
  const remote = await destination.registerSpans(to, spans, ACCESS.localWrite | ACCESS.remoteWrite);
  const bitmap = native.createBitmap(PAGES);
  bitmap.setRange(0, PAGES);
  const keys = Uint32Array.of(lkey, remote[1] ?? 0);
  const result = await source.write({ mapping: from, bitmap, spans, keys, remoteAddress: to.address });
  expect(result.bytes).toBe(BYTES);
  await source.barrier();
  await source.send(Buffer.from('done')); // the first queue pair's own
  await destination.receive();
  const digests = [await from.digest(), await to.digest()];
  await source.deregister(Uint32Array.of(lkey));
  await destination.deregister(remote.subarray(0, 1));
  await Promise.all([from.close(), to.close()]);
  return digests;
}

/** Every sixteenth page, each with its number. */
function records(): Buffer {
  const all: Buffer[] = [];
  for (let page = 0; page < PAGES; page += 16) {
    const name = page === 0 ? Buffer.from('\x05block') : Buffer.alloc(0);
    const word = Buffer.alloc(8);
    word.writeBigUInt64BE((BigInt(page) * 4096n) | 0x08n | (page === 0 ? 0n : 0x20n));
    const content = Buffer.alloc(4096, 0x5a);
    content.writeUInt32LE(page + 1);
    all.push(word, name, content);
  }
  return Buffer.concat(all);
}

it.each([1, 2, 4])('%i rails carry a span whole', async (rails) => {
  await using pair = await NativePair.connect(rails);
  expect([pair.source.rails, pair.destination.rails]).toEqual([rails, rails]);
  const [sent, arrived] = await write(pair.source, pair.destination);
  expect(arrived).toBe(sent);
  expect(pair.destination.stats().writeBytesPlaced).toBe(BYTES);
});

it('a connection has no rails before it is established, and the calls of one that has ended reject', async () => {
  const connection = native.createConnection('iwarp', OPTIONS);
  expect(connection.rails).toBe(0);
  await connection.close();
  expect(await failure(connection.barrier())).toMatchObject({ code: 'CONNECTION_CLOSED' });
  const endpoint = { host: '127.0.0.1', port: 1 };
  expect(await failure(connection.connectRail(endpoint, NOTHING, 1000))).toMatchObject({
    code: 'CONNECTION_CLOSED',
  });
});

it('a SEND of a connection that has ended is refused at once: nothing was posted', async () => {
  await using pair = await NativePair.connect();
  await pair.source.close();
  let refusal: unknown;
  try {
    pair.source.send(new Uint8Array(16)).catch(() => {});
  } catch (error) {
    refusal = error;
  }
  expect(refusal).toMatchObject({ code: 'CONNECTION_CLOSED' });
});

it('a rail that is refused rejects with the peer’s answer, and the connection goes on', async () => {
  await using pair = await NativePair.connect(2);
  const refused = failure(pair.source.connectRail(pair.requests.endpoint, NOTHING, 10_000));
  (await pair.requests.next()).reject(Buffer.from('enough'));
  expect(await refused).toMatchObject({ code: 'REJECTED' });
  expect(pair.source.rails).toBe(2);
  const [sent, arrived] = await write(pair.source, pair.destination);
  expect(arrived).toBe(sent);
});

it('a barrier fails when the connection ends before it has passed', async () => {
  await using pair = await NativePair.connect(3);
  await pair.destination.close();
  expect((await failure(pair.source.barrier())).message).toBeTruthy();
  await pair.source.closed;
});

it('a peer that says something on a rail that is no barrier ends the connection, by name', async () => {
  await using requests = await Requests.listen();
  await using peer = await RawPeer.tcp(requests.endpoint.port);
  const destination = native.createConnection('iwarp', OPTIONS);
  const control = peer.request(NOTHING);
  await destination.accept(await requests.next(), NOTHING, true);
  await control;
  await using rail = await RawPeer.tcp(requests.endpoint.port);
  const established = rail.request(NOTHING);
  await destination.acceptRail(await requests.next(), NOTHING);
  await established;
  rail.send(Buffer.from('hello'));
  expect(await destination.closed).toMatchObject({
    code: 'PROTOCOL_ERROR',
    message: expect.stringContaining('channel 2 of 2'),
  });
  await destination.close();
});

const descriptors = (): number => readdirSync('/proc/self/fd').length;
const threads = (): number => readdirSync('/proc/self/task').length;

it('a refusal costs no endpoint: 500 peers are told, with no descriptor or thread left', async () => {
  await using requests = await Requests.listen();
  const before = [descriptors(), threads()];
  for (let round = 0; round < 10; round += 1) {
    const peers = await Promise.all(
      Array.from({ length: 50 }, () => connectAndRead(requests.endpoint.port, requests)),
    );
    expect(new Set(peers)).toEqual(new Set(['not you']));
  }
  expect(descriptors()).toBeLessThanOrEqual((before[0] ?? 0) + 5);
  expect(threads()).toBeLessThanOrEqual((before[1] ?? 0) + 2);
});

async function connectAndRead(port: number, requests: Requests): Promise<string> {
  await using peer = await RawPeer.tcp(port);
  const answer = peer.request(NOTHING);
  (await requests.next()).reject(Buffer.from('not you'));
  const reply = await answer;
  return Buffer.from(reply.privateData).toString();
}

it('a request is answered once, and only a request is accepted', async () => {
  await using requests = await Requests.listen();
  const source = native.createConnection('iwarp', OPTIONS);
  const refused = failure(source.connect(requests.endpoint, NOTHING));
  const request = await requests.next();
  request.reject(Buffer.from('no'));
  request.reject(Buffer.from('again'));
  request.drop();
  const destination = native.createConnection('iwarp', OPTIONS);
  expect(() => destination.accept(request, NOTHING, true)).toThrow(/answered or dropped already/);
  expect(() => destination.accept({} as typeof request, NOTHING, true)).toThrow(/a request of listen/);
  expect(await refused).toMatchObject({ code: 'REJECTED' });
  await Promise.all([source.close(), destination.close()]);
});

/** A listener's bounds (native/iwarp/listener.cc): requests that nobody has answered, and peers whose request is still on its way. */
const MOST_AT_ONCE = 64 + 64;
const REQUEST = Buffer.from('MPA ID Req Frame\0\x01\0\0', 'latin1'); // RFC 5044 section 7.1.1

it('requests that nobody answers do not pile up: the others wait in the kernel', async () => {
  await using requests = await Requests.listen();
  let open = 2 * MOST_AT_ONCE;
  for (let peer = open; peer > 0; peer -= 1) {
    const socket = connect(requests.endpoint.port, '127.0.0.1');
    socket.on('error', () => {});
    socket.on('close', () => {
      open -= 1;
    });
    socket.resume().write(REQUEST);
  }
  while (requests.arrived.length < 64) await delay(10);
  await delay(500); // time for one too many
  expect(requests.arrived.length).toBeLessThanOrEqual(MOST_AT_ONCE);
  // Each is dealt with in the end, as places become free.
  while (open > 0) {
    for (const request of requests.arrived.splice(0)) request.drop();
    await delay(10);
  }
});

it('a connection takes further rails, and tells a barrier that it cannot have why', async () => {
  const incoming: IncomingConnection[] = [];
  let came = (): void => {};
  const take = async (): Promise<IncomingConnection> => {
    while (incoming.length === 0) await new Promise<void>((resolve) => (came = resolve));
    return incoming.shift() as IncomingConnection;
  };
  const onIncoming = (request: IncomingConnection): void => {
    incoming.push(request);
    came();
  };
  const address = { host: '127.0.0.1', port: 0 };
  await using listener = await Listener.open('iwarp', address, OPTIONS, onIncoming, () => {});
  const endpoint = { host: '127.0.0.1', port: listener.port };
  const connecting = openConnection('iwarp', endpoint, NOTHING, OPTIONS);
  await using destination = await (await take()).accept(NOTHING);
  await using source = await connecting;
  const limits = { timeoutMs: 10_000 };

  const dialing = { index: 1, connectTimeoutMs: 10_000, signal: source.ended };
  const rail = source.rails.connect(endpoint, Buffer.from('second'), dialing);
  const second = await take();
  expect(Buffer.from(second.privateData).toString()).toBe('second');
  await second.join(destination, Buffer.from('welcome'), 1);
  expect(Buffer.from(await rail).toString()).toBe('welcome');
  expect([source.rails.channels, destination.rails.channels]).toEqual([2, 2]);
  await source.rails.barrier(limits);
  await destination.rails.barrier(limits);

  await expect(second.join(destination, NOTHING, 2)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  expect(destination.ended.aborted).toBe(false);
  await destination.close();
  await expect(source.rails.barrier(limits)).rejects.toBe(await endOf(source));
});

async function endOf(connection: Connection): Promise<unknown> {
  if (!connection.ended.aborted)
    await new Promise((resolve) => connection.ended.addEventListener('abort', resolve, { once: true }));
  return connection.ended.reason;
}
