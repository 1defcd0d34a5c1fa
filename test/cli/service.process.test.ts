/** `receive --keep` as a process: many sources at once, some of which are broken, hostile or in the way. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import { MigrationSource, openImage, parseRdmaUri } from '../../lib/index.ts';
import { requestRail } from '../../lib/protocol/rail-request.ts';
import { differingFiles, MIB, syntheticImage } from '../support/images.ts';
import { controlMessage, privateData } from '../support/raw-control.ts';
import { MPA_FLAG } from '../support/raw-frames.ts';
import { RawPeer } from '../support/raw-iwarp.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { buildCommand, type CommandFolder, eventsOf, type RunningCommand } from './command.ts';

/** Bytes a second: such a migration is under way for as long as a test likes. */
const SLOW = 1n << 16n;

let command: CommandFolder;
let image: string;

beforeAll(async () => {
  command = await buildCommand();
  image = join(command.work, 'vm');
  await (await syntheticImage(image, [{ name: 'pc.ram', length: 16n * MIB, fill: 'mixed' }])).close();
});
afterAll(() => command[Symbol.asyncDispose]());

const folder = (): Promise<string> => mkdtemp(join(command.work, 'case-'));

interface Service {
  readonly process: RunningCommand;
  readonly uri: string;
  readonly folder: string;
}

/** Also what a case that failed has left: its sources would run on with it. */
const started: RunningCommand[] = [];

afterEach(async () => {
  const left = started.splice(0);
  for (const process of left) process.kill('SIGKILL');
  await Promise.all(left.map(({ ended }) => ended.catch(() => {})));
});

function start(...args: readonly string[]): RunningCommand {
  const process = command.start(...args);
  started.push(process);
  return process;
}

async function service(...options: readonly string[]): Promise<Service> {
  const kept = await folder();
  const process = start('receive', 'rdma:127.0.0.1:0', '--keep', kept, '--json', ...options);
  const { uri } = await process.waitForEvent('listening');
  return { process, uri: String(uri), folder: kept };
}

const idOf = (stdout: string): string => String(eventsOf(stdout)[0]?.migrationId);

describe('receive --keep', () => {
  it('receives several at once, and one after them, each under its id, and ends with 0 when told to', async () => {
    const { process, uri, folder } = await service();
    const sent = await Promise.all(
      [1, 2, 3].map((channels) =>
        command.run('send', '--again', image, uri, '--json', '--channels', String(channels)),
      ),
    );
    sent.push(await command.run('send', '--again', image, uri, '--json'));
    expect(sent.map(({ code, stderr }) => [code, stderr])).toEqual(sent.map(() => [0, '']));
    const ids = sent.map(({ stdout }) => idOf(stdout));
    expect((await readdir(folder)).sort()).toEqual(ids.toSorted());
    for (const id of ids) expect(await differingFiles(image, join(folder, id))).toEqual([]);
    process.kill('SIGTERM');
    const { code, stdout, stderr } = await process.ended;
    expect([code, stderr]).toEqual([0, '']);
    const events = eventsOf(stdout);
    for (const id of ids) {
      const own = events.filter(({ migrationId }) => migrationId === id);
      expect(own[0]).toEqual({ event: 'started', migrationId: id, peer: expect.any(String) });
      expect(own.at(-1)).toMatchObject({
        event: 'completed',
        outcome: 'committed',
        image: join(folder, id),
      });
    }
    expect(events.at(-1)).toEqual({
      ...{ event: 'completed', status: 'stopped', folder },
      ...{ received: 4, failed: 0, cancelled: 0 },
    });
  });

  it('goes on when one source is killed and others are none, or misbehave', async () => {
    const { process, uri, folder } = await service('--resume-window', '500ms');
    const { port } = parseRdmaUri(uri);
    const slow = start('send', '--again', image, uri, '--json', '--max-bandwidth', '64K');
    const killed = idOf(`${JSON.stringify(await slow.waitForEvent('started'))}\n`);
    await process.waitForEvent(
      'phase',
      ({ migrationId, phase }) => migrationId === killed && phase === 'ram',
    );
    // One that says nothing, a rail of nobody's, and a source that breaks the protocol where RAM is written.
    await using silent = await RawPeer.tcp(port);
    expect((await silent.request(privateData())).flags & MPA_FLAG.reject).toBe(0);
    await using rail = await RawPeer.tcp(port);
    const asked = requestRail({ token: 0x1234n, index: 1 });
    expect((await rail.request(asked)).flags & MPA_FLAG.reject).not.toBe(0);
    await using rude = await ScriptedSource.connect(port);
    await rude.reach('registered');
    rude.peer.send(controlMessage(99));
    const beside = command.run('send', '--again', image, uri, '--json', '--channels', '2');
    slow.kill('SIGKILL');
    const { stdout, code } = await beside;
    expect(code).toBe(0);
    const lost = await process.waitForEvent('error', ({ migrationId }) => migrationId === killed);
    expect(lost).toMatchObject({ 'exit-code': 3, left: 'nothing of it was kept' });
    const refused = await process.waitForEvent('error', ({ migrationId }) => migrationId !== killed);
    expect(refused).toMatchObject({ code: 'PROTOCOL_ERROR' });
    expect(await differingFiles(image, join(folder, idOf(stdout)))).toEqual([]);
    process.kill('SIGTERM');
    // What failed before it was told to end is no failure of the service.
    expect(await process.ended).toMatchObject({ code: 0 });
    expect(await readdir(folder)).toEqual([idOf(stdout)]);
  });

  it('refuses a VM under an id that is there, as one more than it may take, and says which', async () => {
    const { process, uri, folder } = await service('--max-migrations', '1');
    const { stdout } = await command.run('send', '--again', image, uri, '--json');
    await using vm = await openImage(image);
    await using again = new MigrationSource(vm, uri);
    Object.defineProperty(again, 'migrationId', { value: idOf(stdout) });
    await expect(again.migrate()).rejects.toMatchObject({
      code: 'PEER_ERROR',
      details: { peerCode: 'IMAGE_EXISTS', peerMessage: expect.stringContaining(idOf(stdout)) },
    });
    const told = await process.waitForEvent('error');
    expect(told).toMatchObject({ code: 'IMAGE_EXISTS', migrationId: idOf(stdout), 'exit-code': 6 });
    await using slow = new MigrationSource(vm, uri, { maxBandwidth: SLOW });
    const moved = slow.migrate();
    moved.catch(() => {});
    await process.waitForEvent('started', ({ migrationId }) => migrationId === slow.migrationId);
    const busy = await command.run('send', '--again', image, uri, '--json');
    expect([busy.code, eventsOf(busy.stdout).at(-1)]).toEqual([4, expect.objectContaining({ code: 'BUSY' })]);
    await process.waitForEvent('notice', ({ details }) => (details as { why?: string }).why === 'BUSY');
    slow.setMaxBandwidth(0n);
    expect(await moved).toMatchObject({ outcome: 'committed' });
    expect((await command.run('send', '--again', image, uri)).code).toBe(0);
    process.kill('SIGTERM');
    expect((await process.ended).code).toBe(0);
    expect(await readdir(folder)).toHaveLength(3);
  });

  it.each([
    { name: 'finishes what is under way, and takes no new source', options: [], code: 0 },
    { name: 'cancels it by policy', options: ['--on-term', 'cancel'], code: 143 },
    { name: 'cancels it when it takes too long', options: ['--drain-timeout', '0.1'], code: 143 },
  ])('at SIGTERM $name', async ({ options, code }) => {
    const { process, uri, folder } = await service(...options);
    await using vm = await openImage(image);
    await using source = new MigrationSource(vm, uri, { maxBandwidth: SLOW });
    const moved = source.migrate().then(
      ({ outcome }) => outcome,
      (error: { code: string }) => error.code,
    );
    await process.waitForEvent('phase', ({ phase }) => phase === 'ram');
    process.kill('SIGTERM');
    await process.waitForEvent('notice', ({ message }) => String(message).startsWith('SIGTERM'));
    if (code === 0) {
      const late = await command.run('send', '--again', image, uri, '--json');
      expect([3, 4]).toContain(late.code);
      source.setMaxBandwidth(0n);
    }
    const ended = await process.ended;
    expect([await moved, ended.code]).toEqual([code === 0 ? 'committed' : 'PEER_ERROR', code]);
    const last = eventsOf(ended.stdout).at(-1);
    if (code === 0) expect(last).toMatchObject({ status: 'stopped', received: 1 });
    else expect(last).toMatchObject({ event: 'error', code: 'CANCELLED', details: { cancelled: 1 } });
    expect(await readdir(folder)).toEqual(code === 0 ? [source.migrationId] : []);
  });

  it('ends at once at the second signal', async () => {
    const { process, uri } = await service();
    await using vm = await openImage(image);
    await using source = new MigrationSource(vm, uri, { maxBandwidth: SLOW });
    const moved = source.migrate();
    moved.catch(() => {});
    await process.waitForEvent('phase', ({ phase }) => phase === 'ram');
    process.kill('SIGTERM');
    await process.waitForEvent('notice', ({ message }) => String(message).startsWith('SIGTERM'));
    process.kill('SIGTERM');
    expect(await process.ended).toMatchObject({ code: null, signal: 'SIGTERM' });
    await expect(moved).rejects.toMatchObject({ code: 'CONNECTION_LOST' });
  });

  it('ends with 2 where nobody says where VMs go, or says it twice', async () => {
    const cases = [
      [[], /--image DIR.*--keep DIR/],
      [['--image', 'a', '--keep', 'b'], /cannot be used with/],
      [['--image', 'a', '--on-term', 'cancel'], /--on-term is for a service/],
      [['--keep', 'b', '--max-migrations', '0'], /from 1 to 1024/],
    ] as const;
    const ends = await Promise.all(
      cases.map(([options]) => command.run('receive', 'rdma:127.0.0.1:0', ...options)),
    );
    for (const [at, { code, stderr }] of ends.entries()) {
      expect(code).toBe(2);
      expect(stderr).toMatch(cases[at]?.[1] as RegExp);
    }
  });
});

/** Prints each datagram that comes to a socket of either kind as a line of JSON. */
const RECEIVER = `
import json, select, socket, sys
sockets = []
for name in sys.argv[1:]:
    one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    one.bind('\\0' + name[1:] if name[0] == '@' else name)
    sockets.append(one)
print('ready', flush=True)
while True:
    for one in select.select(sockets, [], [])[0]:
        print(json.dumps(one.recv(4096).decode()), flush=True)
`;

describe.skipIf(spawnSync('python3', ['--version']).status !== 0)('a service manager (needs python3)', () => {
  it.each(['path', 'abstract'])(
    'hears that a service is ready, how many it serves, and that it ends: %s',
    async (kind) => {
      const name = kind === 'path' ? join(await folder(), 'notify') : `@rdma-migrate-${process.pid}`;
      const receiver: ChildProcess = spawn('python3', ['-c', RECEIVER, name], {
        stdio: ['ignore', 'pipe', 'inherit'],
      });
      try {
        let heard = '';
        receiver.stdout?.on('data', (bytes: Buffer) => {
          heard += bytes.toString();
        });
        await expect.poll(() => heard, { timeout: 20_000 }).toContain('ready');
        const env = { NOTIFY_SOCKET: name, WATCHDOG_USEC: '300000' };
        const options = ['receive', 'rdma:127.0.0.1:0', '--keep', await folder()];
        const served = command.startWith(env, ...options);
        started.push(served);
        const [, uri = ''] = await served.waitForOutput(/listening at (\S+)/);
        await expect
          .poll(() => heard, { timeout: 20_000 })
          .toContain(`READY=1\\nSTATUS=at ${uri}: 0 under way, 0 received`);
        const sent = await command.run('send', '--again', image, uri);
        expect(sent.code).toBe(0);
        await expect
          .poll(() => heard, { timeout: 20_000 })
          .toContain(`STATUS=at ${uri}: 0 under way, 1 received`);
        expect(heard).toContain('WATCHDOG=1');
        served.kill('SIGTERM');
        const { code, stdout } = await served.ended;
        expect(code).toBe(0);
        // Without a terminal each line stands alone, with the VM's id.
        const [, id] = /migration ([0-9a-f-]{36})/.exec(sent.stdout) ?? [];
        const lines = stdout.trimEnd().split('\n').slice(1, -1);
        expect(lines.length).toBeGreaterThan(3);
        for (const line of lines) expect(line.startsWith(`${id}: `)).toBe(true);
        await expect.poll(() => heard, { timeout: 20_000 }).toContain('STOPPING=1');
      } finally {
        receiver.kill('SIGKILL');
        await once(receiver, 'close');
      }
    },
  );
});
