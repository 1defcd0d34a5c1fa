import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { QmpClient } from '../../lib/qmp/client.ts';
import { MAX_QUEUED_EVENTS } from '../../lib/qmp/events.ts';
import { MAX_LINE_BYTES } from '../../lib/qmp/lines.ts';

const GREETING = {
  QMP: { version: { qemu: { major: 7, minor: 2, micro: 22 }, package: 'Debian' }, capabilities: [] },
};

interface Command {
  readonly execute: string;
  readonly arguments: unknown;
  readonly id: number;
}

type Answer = (command: Command, socket: Socket) => void;

const send = (socket: Socket, ...messages: unknown[]) =>
  socket.write(messages.map((message) => `${JSON.stringify(message)}\r\n`).join(''));
const event = (name: string, data?: unknown) => ({
  event: name,
  data,
  timestamp: { seconds: 1, microseconds: 2 },
});

let folder: string;
let server: Server;
let peers: Socket[];
const path = () => join(folder, 'qmp');

/** Listens as a QEMU that greets and enters command mode, and then does what `answer` does. */
async function serve(
  answer: Answer,
  onConnect = (socket: Socket) => void send(socket, GREETING),
): Promise<void> {
  server.on('connection', (socket) => {
    peers.push(socket.on('error', () => undefined));
    let text = '';
    socket.setEncoding('utf8').on('data', (part: string) => {
      const lines = (text + part).split('\n');
      text = lines.pop() ?? '';
      for (const line of lines) dispatch(JSON.parse(line) as Command, socket);
    });
    onConnect(socket);
  });
  const dispatch: Answer = (command, socket) =>
    command.execute === 'qmp_capabilities'
      ? send(socket, { return: {}, id: command.id })
      : answer(command, socket);
  server.listen(path());
  await once(server, 'listening');
}

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-qmp-'));
  server = createServer();
  peers = [];
});

afterEach(async () => {
  for (const peer of peers) peer.destroy();
  if (server.listening) await new Promise((resolve) => server.close(resolve));
  await rm(folder, { recursive: true, force: true });
});

const connect = (timeoutMs = 5_000) => QmpClient.connect({ socket: path(), timeoutMs });

describe('a QMP client', () => {
  it('greets, runs commands and gives what they return', async () => {
    await serve((command, socket) => send(socket, { return: command, id: command.id }));
    await using client = await connect();
    expect(client.greeting).toEqual({ version: { major: 7, minor: 2, micro: 22 }, package: 'Debian' });
    const sent = await client.execute('migrate', { uri: 'exec:cat' });
    expect(sent).toMatchObject({ execute: 'migrate', arguments: { uri: 'exec:cat' } });
  });

  it('matches answers to commands that come back in another order and in single bytes', async () => {
    const held: Command[] = [];
    await serve((command, socket) => {
      held.unshift(command);
      if (held.length < 3) return;
      for (const { execute, id } of held) {
        for (const byte of Buffer.from(`${JSON.stringify({ return: `${execute} ä`, id })}\n`)) {
          socket.write(Buffer.of(byte));
        }
      }
    });
    await using client = await connect();
    const answers = await Promise.all(['a', 'b', 'c'].map((name) => client.execute(name)));
    expect(answers).toEqual(['a ä', 'b ä', 'c ä']);
  });

  it("gives QEMU's class and description of an error, and goes on", async () => {
    await serve(({ execute, id }, socket) =>
      send(
        socket,
        execute === 'bad' ? { error: { class: 'CommandNotFound', desc: 'no bad' }, id } : { return: 1, id },
      ),
    );
    await using client = await connect();
    await expect(client.execute('bad')).rejects.toMatchObject({
      code: 'PEER_ERROR',
      message: 'QEMU refused bad: no bad',
      details: { command: 'bad', class: 'CommandNotFound', desc: 'no bad' },
    });
    expect(await client.execute('good')).toBe(1);
  });

  it('gives every reader the events since it began to read, in order', async () => {
    await serve(({ id }, socket) =>
      send(socket, event('STOP'), { return: {}, id }, event('MIGRATION', { status: 'x' })),
    );
    await using client = await connect();
    const [one, two] = [client.events(), client.events()];
    await client.execute('stop');
    for (const reader of [one, two]) {
      expect(await reader.next()).toEqual({ done: false, value: { name: 'STOP', data: {} } });
      expect((await reader.next()).value).toEqual({ name: 'MIGRATION', data: { status: 'x' } });
    }
    await two.return?.();
    const waiting = one.next();
    await client.close();
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect(await one.next()).toEqual({ done: true, value: undefined });
  });

  it('ends a reader that leaves too many events unread, not the connection', async () => {
    await serve(({ id }, socket) => {
      send(socket, ...Array.from({ length: MAX_QUEUED_EVENTS + 1 }, () => event('FLOOD')), {
        return: {},
        id,
      });
    });
    await using client = await connect();
    const reader = client.events();
    await client.execute('flood');
    for (let i = 0; i <= MAX_QUEUED_EVENTS; i++) expect((await reader.next()).done).toBe(false);
    await expect(reader.next()).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
    expect(await client.execute('flood')).toEqual({});
  });

  it('fails commands and readers after close, which may be called again', async () => {
    await serve(() => undefined);
    const client = await connect();
    const unanswered = client.execute('stop');
    await Promise.all([
      client.close(),
      client.close(),
      expect(unanswered).rejects.toMatchObject({ code: 'CLOSED' }),
    ]);
    await expect(client.execute('stop')).rejects.toMatchObject({ code: 'CLOSED' });
    expect(await client.events().next()).toEqual({ done: true, value: undefined });
  });

  it('closes although the server does not', async () => {
    server = createServer({ allowHalfOpen: true });
    await serve(() => undefined);
    const client = await connect();
    await client.close();
  });
});

describe('a QMP client at its deadline', () => {
  it.each([
    { what: 'sends no greeting', greet: () => undefined },
    { what: 'greets in an endless trickle', greet: (socket: Socket) => void socket.write('{"QMP": ') },
  ])('gives up on a server that $what', async ({ greet }) => {
    await serve(() => undefined, greet);
    await expect(connect(100)).rejects.toMatchObject({ code: 'TIMEOUT', phase: 'negotiate' });
    await once(peers[0] as Socket, 'close');
  });

  it('gives up on a command that is never answered, and drops the late answer', async () => {
    let late: Command | undefined;
    await serve((command, socket) => {
      if (command.execute === 'slow') late = command;
      else send(socket, { return: 'late', id: late?.id }, { return: command.execute, id: command.id });
    });
    await using client = await connect();
    await expect(client.execute('slow', {}, { timeoutMs: 50 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(await client.execute('next')).toBe('next');
  });

  it('gives up when the caller aborts, before or after the command was sent', async () => {
    await serve(() => undefined);
    await using client = await connect();
    const aborted = AbortSignal.abort();
    await expect(client.execute('stop', {}, { signal: aborted })).rejects.toMatchObject({
      code: 'CANCELLED',
    });
    const controller = new AbortController();
    const command = client.execute('stop', {}, { signal: controller.signal });
    controller.abort();
    await expect(command).rejects.toMatchObject({ code: 'CANCELLED' });
    const connecting = QmpClient.connect({ socket: path(), signal: aborted });
    await expect(connecting).rejects.toMatchObject({ code: 'CANCELLED' });
  });
});

describe('a QMP client and a hostile server', () => {
  it.each([
    { what: 'garbage', bytes: 'QEMU 7.2 monitor - type help\n' },
    { what: 'JSON that is no object', bytes: '[1]\n' },
    { what: 'null', bytes: 'null\n' },
    { what: 'an object of no known kind', bytes: '{"a":1}\n' },
    { what: 'a greeting without a version', bytes: '{"QMP":{}}\n' },
    { what: 'a line without end', bytes: 'x'.repeat(MAX_LINE_BYTES + 1) },
    { what: 'an answer to no command', bytes: '{"return":{},"id":1}\n' },
  ])('refuses $what in place of the greeting', async ({ bytes }) => {
    await serve(
      () => undefined,
      (socket) => void socket.write(bytes),
    );
    await expect(connect()).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
  });

  it.each([
    { what: 'garbage', message: 'x' },
    { what: 'a second greeting', message: GREETING },
    { what: 'an answer to a command that was not sent', message: { return: {}, id: 99 } },
    { what: 'an answer to command -1', message: { return: {}, id: -1 } },
    { what: 'an answer without id', message: { return: {} } },
    { what: 'an error without id', message: { error: { class: 'GenericError', desc: 'what?' } } },
    { what: 'an error without description', message: { error: {}, id: 2 } },
    { what: 'an event whose data is a number', message: { event: 'STOP', data: 1 } },
  ])('breaks the connection at $what', async ({ message }) => {
    await serve((_, socket) => send(socket, message));
    await using client = await connect();
    const reader = client.events();
    await expect(client.execute('stop')).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
    await expect(client.execute('cont')).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
    await expect(reader.next()).rejects.toMatchObject({ code: 'PROTOCOL_ERROR' });
  });

  it.each([
    { what: 'before the greeting', answer: () => undefined, greet: (socket: Socket) => void socket.end() },
    {
      what: 'in the middle of the greeting',
      answer: () => undefined,
      greet: (s: Socket) => void s.end('{"QMP"'),
    },
  ])('fails when the connection ends $what', async ({ answer, greet }) => {
    await serve(answer, greet);
    await expect(connect()).rejects.toMatchObject({ code: 'CONNECTION_CLOSED' });
  });

  it('fails all commands when the connection ends in the middle of an answer', async () => {
    await serve((_, socket) => void socket.end('{"return"'));
    await using client = await connect();
    const results = await Promise.allSettled([client.execute('a'), client.execute('b')]);
    for (const result of results) {
      expect(result).toMatchObject({ status: 'rejected', reason: { code: 'CONNECTION_CLOSED' } });
    }
  });

  it('says how to start QEMU when there is no socket or nothing listens on it', async () => {
    await expect(connect()).rejects.toMatchObject({
      code: 'ADDRESS_NOT_FOUND',
      message: expect.stringContaining('-qmp unix:'),
    });
    await expect(QmpClient.connect({ socket: folder })).rejects.toMatchObject({ code: 'CONNECTION_REFUSED' });
  });
});
