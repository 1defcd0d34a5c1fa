/** The command as a process: stdio, signals, exit codes, lines of JSON. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, connect as netConnect, type Socket } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parseRdmaUri } from '../../lib/protocol/uri.ts';
import { encodeHello } from '../../lib/tunnel/hello.ts';
import { MPA_FLAG } from '../support/raw-frames.ts';
import { RawPeer } from '../support/raw-iwarp.ts';
import { buildCommand, type CommandFolder, type RunningCommand } from './command.ts';

let command: CommandFolder;
beforeAll(async () => {
  command = await buildCommand();
});
afterAll(() => command?.[Symbol.asyncDispose]());

const HELLO = encodeHello({
  version: 1,
  status: 'welcome',
  softwareRnic: true,
  tls: false,
  unchecked: false,
});

const uriOf = async (end: RunningCommand): Promise<string> =>
  (await end.waitForOutput(/rdma:127\.0\.0\.1:\d+/))[0];

describe.concurrent('rdma-migrate tunnel', () => {
  it('carries stdin to a socket, and ends when both directions have', async () => {
    const server = createServer({ allowHalfOpen: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const far = command.start(
      'tunnel',
      'rdma:127.0.0.1:0',
      '--to',
      `tcp:127.0.0.1:${port}`,
      '--once',
      '--json',
    );
    const near = command.start('tunnel', '--listen', '-', await uriOf(far));
    const text = randomBytes(500_000).toString('hex');
    near.stdin.end(text);
    const [socket] = (await once(server, 'connection')) as [Socket];
    let came = '';
    socket.on('data', (bytes: Buffer) => {
      came += bytes;
    });
    await once(socket, 'end');
    socket.end('answer');
    const [source, destination] = await Promise.all([near.ended, far.ended]);
    server.close();
    expect(came).toBe(text);
    expect(source).toMatchObject({ code: 0, stdout: 'answer' });
    expect(destination.code).toBe(0);
    const events = destination.stdout
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(events.map(({ event, code }) => code ?? event)).toEqual([
      'listening',
      'STREAM_OPENED',
      'STREAM_CLOSED',
      'completed',
    ]);
    expect(events.at(-1)).toMatchObject({ streams: 1, sent: '6', received: '1000000', provider: 'iwarp' });
  });

  it('keeps stdout for who speaks, whoever else has asked for it and is silent', async () => {
    // It would be waited for longer than this test has.
    const far = command.start('tunnel', 'rdma:127.0.0.1:0', '--to', '-', '--connect-timeout', '600');
    const [uri] = await far.waitForMessage(/rdma:127\.0\.0\.1:\d+/);
    await using silent = await RawPeer.tcp(parseRdmaUri(uri).port);
    expect((await silent.request(HELLO)).flags & MPA_FLAG.reject).toBe(0);
    const near = command.start('tunnel', '--listen', '-', uri);
    near.stdin.end('something');
    far.stdin.end();
    expect((await near.ended).code).toBe(0);
    expect(await far.ended).toMatchObject({ code: 0, stdout: 'something' });
  });

  it('fails when the other end cannot be reached', async () => {
    const near = command.start('tunnel', '--listen', '-', 'rdma:127.0.0.1:1');
    const { code, stderr } = await near.ended;
    expect(code).toBe(3);
    expect(stderr).toContain('(CONNECTION_REFUSED');
  });

  it('ends at SIGTERM: with 0 while nothing runs, with 143 when it has cut a stream off', async () => {
    const server = createServer((socket) => socket.on('error', () => {})).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const far = command.start('tunnel', 'rdma:127.0.0.1:0', '--to', `tcp:127.0.0.1:${port}`);
    const path = join(command.work, 'near');
    const near = command.start('tunnel', '--listen', `unix:${path}`, await uriOf(far));
    await near.waitForOutput(/listening at unix:/);
    const local = netConnect({ path }).on('error', () => {});
    // What is stopped while it opens a stream has no word for it yet.
    await Promise.all([near, far].map((end) => end.waitForMessage(/stream 1 opened/)));
    near.kill('SIGTERM');
    expect((await near.ended).code).toBe(143);
    await far.waitForMessage(/stream 1 was reset: the stream was cancelled/);
    local.destroy();
    far.kill('SIGTERM');
    expect((await far.ended).code).toBe(0);
    server.close();
  });

  it('says what is wrong with its arguments', async () => {
    const uri = 'rdma:127.0.0.1:0';
    const wrong = [
      ['tunnel', uri],
      ['tunnel', '--listen', 'unix:/x', '--to', 'unix:/y', uri],
      ['tunnel', '--listen', 'nothing', uri],
      ['tunnel', '--to', '-', '--json', uri],
      ['tunnel', '--to', 'unix:/x', '--tls-psk-name', 'a', uri],
    ];
    const ended = await Promise.all(wrong.map((line) => command.run(...line)));
    expect(ended.map(({ code }) => code)).toEqual([2, 2, 2, 2, 2]);
  });
});
