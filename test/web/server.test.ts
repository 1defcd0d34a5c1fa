/** Who is served and who is not, and that no viewer is felt by a migration. */
import { once } from 'node:events';
import { chmod, chown, writeFile } from 'node:fs/promises';
import { type ClientRequestArgs, request } from 'node:http';
import { createConnection } from 'node:net';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { WebSocket } from 'ws';
import { MigrationDestination, MigrationSource } from '../../lib/index.ts';
import { parseWebAddress, readToken, type Snapshot, WebServer } from '../../lib/web/index.ts';
import { failure } from '../support/live-attempt.ts';
import { LiveGuest, MemoryTarget } from '../support/live-guest.ts';
import { temporaryFolder } from '../support/temp.ts';

let server: WebServer;
beforeEach(async () => {
  server = await WebServer.listen({ host: '127.0.0.1', port: 0 });
});
afterEach(() => server.close());

interface Answered {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly body: string;
}

async function ask(path: string, options: ClientRequestArgs = {}): Promise<Answered> {
  const asked = request({ host: '127.0.0.1', port: server.port, path, agent: false, ...options }).end();
  const [response] = await once(asked, 'response');
  let body = '';
  for await (const part of response) body += String(part);
  return { status: response.statusCode, headers: response.headers, body };
}

const bearer = (token = server.token) => ({ authorization: `Bearer ${token}` });

/** Opens the live channel; what it was refused with, or undefined. */
async function refusal(headers: Record<string, string>): Promise<number | undefined> {
  const { 'sec-websocket-protocol': offered, ...others } = headers;
  const protocols = offered?.split(', ') ?? [];
  const socket = new WebSocket(`ws://127.0.0.1:${server.port}/live`, protocols, { headers: others });
  socket.on('error', () => {});
  const [what] = await Promise.race([
    once(socket, 'open'),
    once(socket, 'unexpected-response').then(([, response]) => [response.statusCode]),
  ]);
  socket.terminate();
  return what;
}

describe('a request', () => {
  it('gets the page without a token, and nothing of a migration', async () => {
    const page = await ask('/');
    expect(page.status).toBe(200);
    expect(page.headers['content-security-policy']).toMatch(/^default-src 'none'; script-src 'self'/);
    expect(page.body).not.toContain(server.token);
    expect((await ask('/state.json')).status).toBe(401);
    expect((await ask('/state.json', { headers: bearer() })).status).toBe(200);
    expect((await ask('/state.json', { headers: bearer('wrong') })).status).toBe(401);
    expect((await ask('/metrics')).status).toBe(401);
    expect((await ask('/metrics', { headers: bearer() })).body).toContain('rdma_migrate_migrations_active{');
    expect((await ask(`/state.json?token=${server.token}`)).status).toBe(401);
  });

  it.each(['/../package.json', '/..%2fpackage.json', '/style.css/', '//', '/constructor'])(
    'for %s finds nothing',
    async (path) => expect((await ask(path, { headers: bearer() })).status).toBe(404),
  );

  it.each(['evil.example', 'localhost.evil.example:80', 'a@127.0.0.1'])(
    'to a host called %j is refused, with the token too',
    async (host) => {
      const { status } = await ask('/state.json', { headers: { ...bearer(), host } });
      expect([400, 421]).toContain(status);
    },
  );

  it('gives the page a secret for the token, which opens this server alone, and no cookie', async () => {
    expect((await ask('/session', { method: 'POST' })).status).toBe(401);
    const evil = { ...bearer(), origin: 'http://evil.example' };
    expect((await ask('/session', { method: 'POST', headers: evil })).status).toBe(403);
    const { status, headers, body: secret } = await ask('/session', { method: 'POST', headers: bearer() });
    expect([status, secret]).toEqual([200, expect.stringMatching(/^[\w-]{32}$/)]);
    expect([headers['set-cookie'], secret === server.token]).toEqual([undefined, false]);
    expect((await ask('/state.json', { headers: bearer(secret) })).status).toBe(200);
    // It is no token: it makes no further ones.
    expect((await ask('/session', { method: 'POST', headers: bearer(secret) })).status).toBe(401);
    const cross = { ...bearer(secret), 'sec-fetch-site': 'cross-site' };
    expect((await ask('/state.json', { headers: cross })).status).toBe(403);
    const protocols = { 'sec-websocket-protocol': `rdma-migrate, session.${secret}` };
    expect(await refusal(protocols)).toBeUndefined();
    expect(await refusal({ ...protocols, origin: 'http://evil.example' })).toBe(403);
    expect(await refusal({ 'sec-websocket-protocol': 'rdma-migrate, session.wrong' })).toBe(401);
    await using other = await WebServer.listen({ host: '127.0.0.1', port: 0 });
    const asked = await fetch(`${other.origin}/state.json`, { headers: bearer(secret) });
    expect(asked.status).toBe(401);
  });

  it('for the live channel is refused without token, from another site, and for another name', async () => {
    expect(await refusal({})).toBe(401);
    expect(await refusal(bearer('wrong'))).toBe(401);
    expect(await refusal({ ...bearer(), host: 'evil.example' })).toBe(421);
    expect(await refusal({ ...bearer(), origin: 'null' })).toBe(403);
    expect(await refusal(bearer())).toBeUndefined();
  });
});

describe('viewers', () => {
  const viewer = async (): Promise<WebSocket> => {
    const socket = new WebSocket(`ws://127.0.0.1:${server.port}/live`, { headers: bearer() });
    await once(socket, 'open');
    return socket;
  };

  it('get an answer to whatever they send, and a cancel ends the migration once', async () => {
    await using vm = await LiveGuest.create({ switchoverMs: 1_000 });
    await using target = new MemoryTarget();
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
      provider: 'iwarp',
    });
    const source = new MigrationSource(vm, destination.uri, { provider: 'iwarp', maxBandwidth: 1n << 20n });
    server.show(source, 'a guest', () => void source.close());
    const socket = await viewer();
    const received = destination.receive();
    received.catch(() => {});
    const sent = source.migrate();
    sent.catch(() => {});
    // Messages that come together are told one after the other: whoever listens again only after one would miss the next.
    const answer = (text: string) =>
      new Promise<{ ok: boolean }>((resolve) => {
        const look = (data: unknown, isBinary: boolean): void => {
          if (isBinary) return;
          const said = JSON.parse(String(data));
          if (said.type !== 'answer') return;
          socket.off('message', look);
          resolve(said);
        };
        socket.on('message', look);
        socket.send(text);
      });
    const action = (more: object) => JSON.stringify({ type: 'action', migration: 0, request: 7, ...more });
    for (const text of ['', '[]', '{"type":"action"}', action({ action: 'max-bandwidth', value: -1 })])
      expect((await answer(text)).ok).toBe(false);
    expect((await answer(action({ action: 'max-bandwidth', value: 1e300 }))).ok).toBe(false);
    expect((await answer(action({ action: 'downtime-limit', value: 1e12 }))).ok).toBe(false);
    expect((await answer(action({ action: 'cancel', migration: 1 }))).ok).toBe(false);
    // A destination goes on waiting for a source that was cancelled before it came.
    await expect.poll(() => source.current.phase, { timeout: 30_000 }).toBe('ram');
    expect(await answer(action({ action: 'cancel' }))).toMatchObject({ request: 7, ok: true });
    expect((await failure(sent)).code).toBe('CANCELLED');
    expect((await answer(action({ action: 'cancel' }))).ok).toBe(false);
    socket.terminate();
    await failure(received);
  });

  it('a hundred of them, some dead and some that never read, are not felt, and the others see the end', async () => {
    await using vm = await LiveGuest.create();
    await using target = new MemoryTarget();
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
      provider: 'iwarp',
    });
    const source = new MigrationSource(vm, destination.uri, { provider: 'iwarp', maxBandwidth: 16n << 20n });
    server.show(source, 'a guest', () => {});
    const sockets = await Promise.all(Array.from({ length: 100 }, viewer));
    const last = new Map<WebSocket, Snapshot>();
    for (const [index, socket] of sockets.entries()) {
      if (index % 10 === 0) socket.pause();
      socket.on('message', (data, isBinary) => {
        if (isBinary) return;
        const said = JSON.parse(String(data));
        if (said.type === 'state') last.set(socket, said.migrations[0]);
      });
    }
    const received = destination.receive();
    const sent = source.migrate();
    await expect.poll(() => last.size, { timeout: 10_000 }).toBe(90);
    for (const [index, socket] of sockets.entries()) if (index % 10 === 1) socket.terminate();
    source.stopAndCopy();
    await Promise.all([sent, received]);
    const closed = Promise.all(
      sockets.filter((_, index) => index % 10 > 1).map(async (socket) => (await once(socket, 'close'))[0]),
    );
    await server.close();
    expect(new Set(await closed)).toEqual(new Set([4000]));
    for (const [index, socket] of sockets.entries())
      if (index % 10 > 1) expect(last.get(socket)?.end?.status).toBe('completed');
    for (const socket of sockets) socket.terminate();
  });

  it('that send what is no HTTP, or nothing, do not keep the server from closing', async () => {
    const sockets = ['', 'GET / HTTP/1.1\r\n', '\0\0\0'].map((text) => {
      const socket = createConnection(server.port, '127.0.0.1');
      socket.on('error', () => {});
      socket.write(text);
      return socket;
    });
    await Promise.all(sockets.map((socket) => once(socket, 'connect')));
    const closed = sockets.map((socket) => new Promise((resolve) => socket.once('close', resolve)));
    await server.close();
    await Promise.all(closed);
  });
});

describe('a token of a file', () => {
  it.each([
    ['is taken', 'a'.repeat(24), 0o600, undefined],
    ['that others may read is refused', 'a'.repeat(24), 0o640, 'PERMISSION_DENIED'],
    ['that can be guessed is refused', 'secret', 0o600, 'INVALID_ARGUMENT'],
    ['that is more than a token is refused', `${'a'.repeat(24)} b`, 0o600, 'INVALID_ARGUMENT'],
  ])('%s', async (_what, text, mode, code) => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, 'token');
    await writeFile(path, `${text}\n`);
    await chmod(path, mode);
    if (code === undefined) expect(await readToken(path)).toBe(text);
    else expect((await failure(readToken(path))).code).toBe(code);
  });

  it.runIf(process.geteuid?.() === 0)('of another user is refused', async () => {
    await using folder = await temporaryFolder();
    const path = join(folder.path, 'token');
    await writeFile(path, 'a'.repeat(24), { mode: 0o600 });
    await chown(path, 12345, 0);
    expect((await failure(readToken(path))).code).toBe('PERMISSION_DENIED');
  });
});

describe('an address', () => {
  it.each([
    ['8080', { host: '127.0.0.1', port: 8080 }],
    ['0.0.0.0:0', { host: '0.0.0.0', port: 0 }],
    ['[::1]:80', { host: '::1', port: 80 }],
    ['src.example:9', { host: 'src.example', port: 9 }],
  ])('%s is understood', (text, expected) => expect(parseWebAddress(text)).toEqual(expected));

  it.each(['', '65536', '::1:80', '[1.2.3.4]:1', 'a b:1', ':80', 'http://a:80', '-1'])(
    '%j is refused',
    (text) => {
      expect(() => parseWebAddress(text)).toThrow(/expected \[HOST:\]PORT/);
    },
  );

  it('that is taken is an error that says so', async () => {
    const taken = { host: '127.0.0.1', port: server.port };
    expect((await failure(WebServer.listen(taken))).code).toBe('ADDRESS_IN_USE');
  });
});
