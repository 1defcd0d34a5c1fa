/** Connections of the software RNIC that are protected before anything is said. */
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import {
  acceptCapabilities,
  answerCapabilities,
  requestCapabilities,
} from '../../lib/protocol/capabilities.ts';
import { CONTROL_HEADER_BYTES } from '../../lib/protocol/control.ts';
import { rejectionCapabilities } from '../../lib/protocol/rejection.ts';
import {
  type ConnectOptions,
  connect,
  type IncomingConnection,
  Listener,
} from '../../lib/transport/connect.ts';
import type { Connection } from '../../lib/transport/connection.ts';
import type { Trust } from '../../lib/trust/handshake.ts';

const LIMITS = { timeoutMs: 10_000 };
const OPTIONS = { crc: false, connectTimeoutMs: 10_000, stallTimeoutMs: 10_000 };
const OFFER = { pinAll: false, commit: true };

const end = (role: Trust['role'], byte = 7, authz?: readonly string[]): Trust => ({
  role,
  credentials: { kind: 'psk', keys: new Map([['qemu', Buffer.alloc(32, byte)]]) },
  hostname: '',
  ...(authz && { authz }),
});
const [client, server] = [end('client'), end('server')];

const withTls = (tls?: Trust): ConnectOptions => ({ ...OPTIONS, ...(tls && { tls }) });
const codeOf = (end: unknown): unknown => (end instanceof MigrationError ? end.code : 'connected');

/** Both ends' connections, or the errors that they got. `softwareRnic`: what they say of themselves. */
async function both(atSource?: Trust, atDestination?: Trust, softwareRnic = true) {
  let accepted: ((end: Promise<Connection>) => void) | undefined;
  const accepting = new Promise<Connection>((resolve) => {
    accepted = resolve;
  }).catch((error: unknown) => error as MigrationError);
  const serve = async (incoming: IncomingConnection): Promise<Connection> => {
    try {
      const offer = { ...OFFER, softwareRnic, tls: atDestination !== undefined };
      return await incoming.accept(answerCapabilities(incoming.privateData, offer).reply);
    } catch (error) {
      incoming.reject(rejectionCapabilities({ tls: atDestination !== undefined }));
      throw error;
    }
  };
  const listener = await Listener.open(
    'iwarp',
    { host: '127.0.0.1', port: 0 },
    withTls(atDestination),
    (incoming) => accepted?.(serve(incoming)),
    () => {},
  );
  const offer = { ...OFFER, softwareRnic, tls: atSource !== undefined };
  const source = await connect(
    'iwarp',
    { host: '127.0.0.1', port: listener.port },
    requestCapabilities(offer),
    withTls(atSource),
  ).then(
    (connection) => {
      acceptCapabilities(connection.privateData, offer);
      return connection;
    },
    (error: unknown) => error as MigrationError,
  );
  const destination = await accepting;
  return {
    source,
    destination,
    async [Symbol.asyncDispose]() {
      for (const end of [source, destination]) if (!(end instanceof Error)) await end.close();
      await listener.close();
    },
  };
}

it.each([
  ['two of our software RNICs', true],
  ['ends of which one is a device', false],
])('between %s messages go both ways, and both have the same keys', async (_, softwareRnic) => {
  await using ends = await both(client, server, softwareRnic);
  const { source, destination } = ends;
  if (source instanceof Error || destination instanceof Error) throw new Error(`${source} ${destination}`);
  await destination.send({ type: 'READY' }, LIMITS);
  expect((await source.receive({ ...LIMITS, what: 'READY' })).message.type).toBe('READY');
  await source.send({ type: 'RAM_BLOCKS_REQUEST' }, LIMITS);
  expect((await destination.receive({ ...LIMITS, what: 'a request' })).message.type).toBe(
    'RAM_BLOCKS_REQUEST',
  );
  expect(source.keys?.railToken(3)).toBe(destination.keys?.railToken(3));
  for (const { secured, info } of [source, destination]) {
    expect(secured).toMatchObject({ encrypted: softwareRnic, peer: { pskName: 'qemu' } });
    expect(info.detail.includes('AES-256-GCM')).toBe(softwareRnic);
  }
});

it.each([
  ['two of our software RNICs', true],
  ['ends of which one is a device', false],
])(
  'between %s messages may be as long as there is room for, and one that is longer takes nothing along',
  async (_, softwareRnic) => {
    await using ends = await both(client, server, softwareRnic);
    const { source, destination } = ends;
    if (source instanceof Error || destination instanceof Error) throw new Error(`${source} ${destination}`);
    const state = randomBytes(1 << 20);
    const most = source.mostMessageBytes - CONTROL_HEADER_BYTES;
    const arrived: Uint8Array[] = [];
    for (let at = 0; at < state.length; at += most) {
      await source.send({ type: 'QEMU_FILE', bytes: state.subarray(at, at + most) }, LIMITS);
      const { message } = await destination.receive({ ...LIMITS, what: 'device state' });
      if (message.type === 'QEMU_FILE') arrived.push(Buffer.from(message.bytes));
    }
    expect(Buffer.concat(arrived).equals(state)).toBe(true);
    const tooLong = source.send({ type: 'QEMU_FILE', bytes: state.subarray(0, most + 1) }, LIMITS);
    await expect(tooLong).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    await source.send({ type: 'RAM_BLOCKS_REQUEST' }, LIMITS);
    const next = await destination.receive({ ...LIMITS, what: 'a request' });
    expect(next.message.type).toBe('RAM_BLOCKS_REQUEST');
  },
);

it('a connection that has been closed gives no more keys', async () => {
  await using ends = await both(client, server);
  const { source } = ends;
  if (source instanceof Error) throw source;
  await source.close();
  expect(() => source.keys?.railToken(1)).toThrow(MigrationError);
});

describe('it is refused, with words for it, where', () => {
  it.each([
    ['only the source has credentials', client, undefined, ['TLS_REQUIRED', 'TLS_REQUIRED']],
    ['only the destination has credentials', undefined, server, ['TLS_REQUIRED', 'TLS_REQUIRED']],
    ['the keys are not the same', end('client', 8), server, ['TLS_FAILED', 'TLS_FAILED']],
  ])('%s', async (_, atSource, atDestination, codes) => {
    await using ends = await both(atSource, atDestination);
    expect([codeOf(ends.source), codeOf(ends.destination)]).toEqual(codes);
  });

  it.each([
    ['the destination does not want this source', client, end('server', 7, [])],
    ['the source does not want this destination', end('client', 7, []), server],
  ])('%s', async (_, atSource, atDestination) => {
    await using ends = await both(atSource, atDestination);
    expect([codeOf(ends.source), codeOf(ends.destination)]).toEqual(['NOT_AUTHORIZED', 'NOT_AUTHORIZED']);
  });
});
