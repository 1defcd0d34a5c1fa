/** What watches a command from another process, and a server that is not what it should be. */
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { type WebSocket, WebSocketServer } from 'ws';
import { parseWatchTarget, type WatchedMigration, watch } from '../../lib/web/index.ts';

let server: WebSocketServer;
let speak: (socket: WebSocket) => void;
beforeEach(async () => {
  server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  server.on('connection', (socket) => speak(socket));
});
afterEach(() => {
  for (const socket of server.clients) socket.terminate();
  server.close();
});

const portOf = (): number => (server.address() as AddressInfo).port;

/** The pictures that came until the end. */
async function watched(port = portOf()): Promise<WatchedMigration[][]> {
  const target = parseWatchTarget(`http://127.0.0.1:${port}/#token`);
  const pictures: WatchedMigration[][] = [];
  for await (const picture of watch(target, new AbortController().signal)) pictures.push([...picture]);
  return pictures;
}

const ram = { total: 2, remaining: 1, mbps: 1, 'dirty-sync-count': 1, 'dirty-bytes-rate': 0 };
const live = { 'cpu-throttle-percentage': 0, verdict: 'converging' };
/** Of a source whose id is no UUID of any version: the wire has sixteen bytes. */
const MIGRATION = {
  ...{ id: 0, title: 'vm', role: 'source', notices: [] },
  link: { migrationId: '00000000-0000-0000-0000-000000000001' },
  progress: { phase: 'ram', status: 'active', percentage: 50, ram, live },
};
const state = (change: object = {}): string =>
  JSON.stringify({ type: 'state', migrations: [{ ...MIGRATION, ...change }] });

it('ends with the command, after its last word', async () => {
  speak = (socket) => socket.send(state(), () => socket.close(4000));
  const pictures = await watched();
  expect(pictures.at(-1)?.[0]).toMatchObject({ title: 'vm', link: MIGRATION.link });
});

it('says that the connection was lost where the command has not said that it ends', async () => {
  speak = (socket) => socket.send(state(), () => socket.close(1001));
  await expect(watched()).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
});

describe('ends with PROTOCOL_ERROR at', () => {
  it.each<[string, string]>([
    ['something else than JSON', '{'],
    ['a state without migrations', '{"type":"state"}'],
    ['a negative size', state({ progress: { ...MIGRATION.progress, ram: { ...ram, total: -1 } } })],
    [
      'a verdict that is none',
      state({ progress: { ...MIGRATION.progress, live: { ...live, verdict: 'constructor' } } }),
    ],
    ['a phase that is none', state({ progress: { ...MIGRATION.progress, phase: '__proto__' } })],
    ['an error without a code', state({ end: { status: 'failed', error: { message: 'x' } } })],
  ])('%s', async (_, text) => {
    speak = (socket) => socket.send(text);
    await expect(watched()).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
  });
});

it('takes no more than so much at once', async () => {
  speak = (socket) => socket.send(Buffer.alloc(17 << 20, 'x').toString());
  await expect(watched()).rejects.toMatchObject({ name: 'MigrationError' });
});

it('says why it is refused', async () => {
  const other = createServer((_, response) => response.end('hello')).on('upgrade', (_, socket) =>
    socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n'),
  );
  await once(other.listen(0, '127.0.0.1'), 'listening');
  const { port } = other.address() as AddressInfo;
  await expect(watched(port)).rejects.toMatchObject({ code: 'NOT_AUTHORIZED' });
  other.close();
  await once(other, 'close');
  await expect(watched(port)).rejects.toMatchObject({ code: 'CONNECTION_REFUSED' });
});

it('is cancelled, also while nothing comes', async () => {
  const controller = new AbortController();
  speak = () => controller.abort();
  const target = parseWatchTarget(`http://127.0.0.1:${portOf()}/#token`);
  await expect(watch(target, controller.signal).next()).rejects.toMatchObject({ code: 'CANCELLED' });
});
