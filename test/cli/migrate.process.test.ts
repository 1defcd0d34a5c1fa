/** receive and send as two processes. */
import { mkdtemp, readdir, readFile, readlink, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { credentialSets } from '../support/credentials.ts';
import { differingFiles, MIB, syntheticImage } from '../support/images.ts';
import { buildCommand, type CommandFolder, type Event, eventsOf } from './command.ts';

const { good } = credentialSets();

let command: CommandFolder;
let image: string;

beforeAll(async () => {
  command = await buildCommand();
  image = join(command.work, 'vm');
  const blocks = [
    { name: 'pc.ram', length: 16n * MIB, fill: 'mixed' },
    { name: 'pc.rom', length: 64n << 10n, fill: 'random' },
  ] as const;
  await (await syntheticImage(image, blocks)).close();
});
afterAll(() => command[Symbol.asyncDispose]());

/** Whether that process has a connection to that port of this machine. */
async function isConnected(pid: number, port: number): Promise<boolean> {
  const rows = (await readFile('/proc/net/tcp', 'utf8')).split('\n').map((row) => row.trim().split(/\s+/));
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, '0')}`;
  const inodes = rows
    .filter(([, , peer, state]) => peer?.endsWith(suffix) && state === '01')
    .map((row) => row[9]);
  const names = await readdir(`/proc/${pid}/fd`);
  const files = await Promise.all(names.map((name) => readlink(`/proc/${pid}/fd/${name}`).catch(() => '')));
  return inodes.some((inode) => files.includes(`socket:[${inode}]`));
}

const folder = (): Promise<string> => mkdtemp(join(command.work, 'case-'));

describe('receive and send', () => {
  it('show themselves on a page, which ends with them', async () => {
    const target = join(await folder(), 'vm');
    const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', target, '--json', '--web', '0');
    const { url } = await receiver.waitForEvent('page');
    const { uri } = await receiver.waitForEvent('listening');
    const [origin, token] = String(url).split('/#');
    const headers = { authorization: `Bearer ${token}` };
    const response = await fetch(`${origin}/state.json`, { headers });
    expect(await response.json()).toMatchObject({
      migrations: [{ role: 'destination', owner: 'source', progress: { phase: 'listen' } }],
    });
    const watchers = [command.start('watch', String(url), '--json'), command.start('watch', '-')];
    watchers[1]?.stdin.end(`${url}\n`);
    for (const { pid } of watchers)
      await expect.poll(() => isConnected(pid, Number(new URL(String(url)).port))).toBe(true);
    const sent = await command.run('send', image, String(uri), '--web', '0');
    const received = await receiver.ended;
    expect([sent.code, received.code]).toEqual([0, 0]);
    const [json, text] = await Promise.all(watchers.map(({ ended }) => ended));
    expect([json?.code, text?.code, json?.stderr]).toEqual([0, 0, '']);
    // The same as the command itself says, but for the image, which is its own affair.
    const { image: _, ...last } = eventsOf(received.stdout).at(-1) as Event & { image?: string };
    expect(eventsOf(json?.stdout ?? '').at(-1)).toEqual(last);
    expect(text?.stdout).toContain('of RAM in');
    const gone = await command.run('watch', String(url));
    expect(gone.stderr).toMatch(/nothing serves a page .*\(CONNECTION_REFUSED, phase connect\)/);
    expect(sent.stderr).toMatch(/^the page: http:\/\/127\.0\.0\.1:\d+\/#[\w-]{32}\n$/);
    await expect(fetch(`${origin}/state.json`, { headers })).rejects.toThrow();
  });

  it.each(['0.0.0.0', '[::]'])('move an image, at %s, and say it in lines of JSON', async (host) => {
    const target = join(await folder(), 'vm');
    const receiver = command.start(
      'receive',
      `rdma:${host}:0`,
      '--image',
      target,
      '--json',
      '--channels',
      '4',
    );
    const { uri } = await receiver.waitForEvent('listening');
    expect(uri).toMatch(/^rdma:.*:[1-9]\d*$/);
    const peer = String(uri).replace('0.0.0.0', '127.0.0.1').replace('[::]', '[::1]');
    const sent = await command.run(
      'send',
      '--again',
      image,
      peer,
      '--json',
      '--verify',
      '--crc',
      '--channels',
      '2',
    );
    const received = await receiver.ended;
    expect([sent.code, sent.stderr, received.code, received.stderr]).toEqual([0, '', 0, '']);
    expect(await differingFiles(image, target)).toEqual([]);
    const ids = [sent, received].map(({ stdout }) => eventsOf(stdout).at(-1)?.migrationId);
    expect(ids[0]).toMatch(/^[0-9a-f-]{36}$/);
    expect(ids[1]).toBe(ids[0]);
    expect(eventsOf(sent.stdout)[0]).toEqual({ event: 'started', uri: peer, migrationId: ids[0] });
    expect((await command.run('image', 'inspect', target)).stdout).toContain(`migration     ${ids[0]}\n`);
    for (const { stdout } of [sent, received]) {
      const events = eventsOf(stdout);
      expect(events.at(-1)).toMatchObject({
        event: 'completed',
        status: 'completed',
        provider: 'iwarp',
        outcome: 'committed',
        crc: true,
        channels: 2,
        machine: 'synthetic',
        percentage: 100,
        eta: 0,
        ram: { total: Number(16n * MIB + 65_536n), remaining: 0, 'page-size': 4096 },
      });
      const phases = events.filter(({ event }) => event === 'phase').map(({ phase }) => phase);
      expect(phases).toEqual(expect.arrayContaining(['negotiate', 'setup', 'ram', 'device-state', 'commit']));
      const progress = events.filter(({ event }) => event === 'progress');
      expect(progress.length).toBeGreaterThan(0);
      expect(progress[0]).toMatchObject({
        ram: { total: expect.any(Number) },
        'total-time': expect.any(Number),
        percentage: expect.any(Number),
      });
    }
  });

  it('say what protects a migration, and who the other end is', async () => {
    const target = join(await folder(), 'vm');
    const receiver = command.start(
      ...['receive', 'rdma:127.0.0.1:0', '--image', target, '--json', '--tls-creds', good],
    );
    const { uri } = await receiver.waitForEvent('listening');
    const sent = await command.run('send', '--again', image, String(uri), '--tls-creds', good);
    const received = await receiver.ended;
    expect([sent.code, received.code]).toEqual([0, 0]);
    expect(await differingFiles(image, target)).toEqual([]);
    const protection = 'TLS 1.3 (TLS_AES_256_GCM_SHA384), peer CN=server.example';
    expect(sent.stdout).toContain(protection);
    expect(sent.stdout).toMatch(/; RAM was encrypted\n/);
    const events = eventsOf(received.stdout);
    const tls = { cipher: 'TLS_AES_256_GCM_SHA384', subject: expect.stringContaining('CN=client.example') };
    expect(events.at(-1)).toMatchObject({ event: 'completed', integrity: 'aead', encrypted: true, tls });
    expect(events).toContainEqual(
      expect.objectContaining({
        event: 'notice',
        code: 'PROTECTED',
        details: { cipher: tls.cipher, peer: tls.subject, encrypted: true },
      }),
    );
  });

  it('say one line at the start and the result at the end when stderr is no terminal', async () => {
    const target = join(await folder(), 'vm');
    const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', target);
    const [, uri = ''] = await receiver.waitForOutput(/^listening at (\S+)\n/);
    const sent = await command.run('send', '--again', image, uri, '--pin-all');
    const received = await receiver.ended;
    expect(sent).toMatchObject({ code: 0, stderr: '' });
    expect(sent.stdout).toMatch(
      /^sending .* 16\.1 MiB of RAM in 2 blocks.*\nsent .*\nprovider iwarp: .*pin-all on.*\nmigration [0-9a-f-]{36}\ncommitted: .*\n$/,
    );
    expect(received).toMatchObject({ code: 0, stderr: '' });
    expect(received.stdout).toMatch(
      /^listening at .*\nreceived .*\nprovider iwarp.*\nmigration [0-9a-f-]{36}\ncommitted: .*\n$/,
    );
  });

  it('say nothing but the address with --quiet, and details on stderr with --verbose', async () => {
    const target = join(await folder(), 'vm');
    const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', target, '--quiet');
    const [line, uri = ''] = await receiver.waitForOutput(/^listening at (\S+)\n/);
    const sent = await command.run('send', '--again', image, uri, '--verbose');
    expect(await receiver.ended).toMatchObject({ code: 0, stdout: line, stderr: '' });
    const lines = sent.stderr.trimEnd().split('\n');
    expect(lines[0]).toMatch(/^20\S+Z debug rdma-migrate begins \| version=.*argv=\["send",/);
    for (const says of [
      /Z debug source: phase negotiate \(connect took \d+\.\d ms\) \|/,
      /Z info {2}source: link connected \| migrationId=\S+ peer=127\.0\.0\.1:\d+ .*"commit":true.*"channels":2/,
      /Z info {2}source: migration completed \(commit took \d+\.\d ms\) \|.*peer=127/,
    ])
      expect(lines.filter((line) => says.test(line))).toHaveLength(1);
  });

  it('put a RAM block where --ram-file says', async () => {
    const at = await folder();
    const receiver = command.start(
      ...[
        'receive',
        'rdma:127.0.0.1:0',
        '--image',
        join(at, 'vm'),
        '--ram-file',
        `pc.ram=${join(at, 'ram')}`,
      ],
    );
    const [, uri = ''] = await receiver.waitForOutput(/^listening at (\S+)\n/);
    expect((await command.run('send', '--again', image, uri)).code).toBe(0);
    expect((await receiver.ended).code).toBe(0);
    expect((await stat(join(at, 'ram'))).size).toBe(Number(16n * MIB));
    expect((await readdir(at)).sort()).toEqual(['ram', 'vm']);
  });

  it('receive its VM although the reader of its stdout has gone', async () => {
    const target = join(await folder(), 'vm');
    const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', target, '--json');
    const { uri } = await receiver.waitForEvent('listening');
    receiver.closeStdout();
    expect((await command.run('send', '--again', image, String(uri))).code).toBe(0);
    expect(await receiver.ended).toMatchObject({ code: 0, stderr: '' });
    expect(await differingFiles(image, target)).toEqual([]);
  });

  it('tell a destination that cannot commit when --commit require is given, and leave it waiting', async () => {
    const target = join(await folder(), 'vm');
    const receiver = command.start(
      'receive',
      'rdma:127.0.0.1:0',
      '--image',
      target,
      '--commit',
      'off',
      '--json',
    );
    const { uri } = await receiver.waitForEvent('listening');
    const refused = await command.run('send', '--again', image, String(uri), '--commit', 'require');
    expect(refused.code).toBe(4);
    expect(refused.stderr).toMatch(
      /\(VERSION_MISMATCH, phase negotiate\)\nrdma-migrate: the image .* is as it was/,
    );
    receiver.kill('SIGINT');
    await receiver.ended;
  });

  it('say that a version 1 peer confirms nothing', async () => {
    const target = join(await folder(), 'vm');
    const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', target, '--commit', 'off');
    const [, uri = ''] = await receiver.waitForOutput(/^listening at (\S+)\n/);
    expect((await command.run('send', '--again', image, uri)).stdout).toMatch(/\nunconfirmed: /);
    expect((await receiver.ended).code).toBe(0);
  });
});
