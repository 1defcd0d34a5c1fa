/** How the command ends when it cannot do what was asked for, and what it leaves: exit codes as docs/errors.md has them. */
import { mkdtemp, readdir, stat, truncate } from 'node:fs/promises';
import { createConnection, createServer } from 'node:net';
import { basename, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MIB, syntheticImage } from '../support/images.ts';
import {
  buildCommand,
  type CommandFolder,
  type Ended,
  type Event,
  eventsOf,
  type RunningCommand,
} from './command.ts';

let command: CommandFolder;
/** 32 MiB of data: 16 seconds at the bandwidth below. */
let image: string;
const SLOWLY = ['--max-bandwidth', '2M'];

beforeAll(async () => {
  command = await buildCommand();
  image = join(command.work, 'vm');
  await (await syntheticImage(image, [{ name: 'pc.ram', length: 32n * MIB, fill: 'random' }])).close();
});
afterAll(() => command[Symbol.asyncDispose]());

const folder = (): Promise<string> => mkdtemp(join(command.work, 'case-'));

/** A port of this machine on which nothing listens. */
async function closedPort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  const address = server.address();
  await new Promise((resolve) => server.close(resolve));
  if (address === null || typeof address === 'string') throw new Error('no port');
  return address.port;
}

function lastError({ stdout }: Ended): Record<string, unknown> {
  return eventsOf(stdout).at(-1) ?? {};
}

describe('what cannot begin', () => {
  it('ends with 2 for a URI that is none, and makes nothing', async () => {
    const at = await folder();
    for (const args of [
      ['receive', 'rdma:nowhere', '--image', join(at, 'vm')],
      ['send', image, 'tcp:127.0.0.1:4444'],
      ['send', image, 'rdma:127.0.0.1:1', '--max-bandwidth', '5X'],
      ['send', image, 'rdma:127.0.0.1:1', '--provider', 'tcp'],
      ['receive', 'rdma:127.0.0.1:0'],
      ['receive', 'rdma:127.0.0.1:0', '--image', join(at, 'none', 'vm')],
      ['polish'],
    ]) {
      const { code, stderr } = await command.run(...args);
      expect([code, stderr, args]).toEqual([
        2,
        expect.stringMatching(/^rdma-migrate: .*\((INVALID_URI|INVALID_ARGUMENT), phase \w+\)\n$/),
        args,
      ]);
    }
    expect(await readdir(at)).toEqual([]);
  });

  it('asks whether image and URI of send were swapped', async () => {
    const { code, stderr } = await command.run('send', 'rdma:127.0.0.1:1', image);
    const says = `did you swap them? Try rdma-migrate send ${image} rdma:127.0.0.1:1 (INVALID_ARGUMENT, phase configure)`;
    expect([code, stderr]).toEqual([2, expect.stringContaining(says)]);
  });

  it('ends with 2 for options that cannot be, in the words of the command line and before it looks at anything', async () => {
    const at = await folder();
    for (const [args, said] of [
      [
        ['send', join(at, 'none'), 'rdma:127.0.0.1:1', '--pin-budget', '1K'],
        'expected at least 2097152 bytes for --pin-budget but received 1024',
      ],
      [
        ['send', join(at, 'none'), 'rdma:127.0.0.1:1', '--channels', '17'],
        'expected an integer from 1 to 16 for --channels but received 17',
      ],
      [
        ['receive', 'rdma:127.0.0.1:0', '--image', join(at, 'none', 'vm'), '--pin-budget', '1K'],
        'expected at least 2097152 bytes for --pin-budget but received 1024',
      ],
      [
        ['send', join(at, 'none'), 'rdma:127.0.0.1:1', '--verify', '--commit', 'off'],
        '--verify compares RAM as a part of the commit handshake, and --commit off leaves that out: ask for one of them',
      ],
    ] as const) {
      const { code, stderr } = await command.run(...args);
      expect([code, stderr]).toEqual([2, `rdma-migrate: ${said} (INVALID_ARGUMENT, phase configure)\n`]);
    }
    expect(await readdir(at)).toEqual([]);
  });

  it('ends with 4 before RAM moves when --verify meets a destination without the commit handshake', async () => {
    const at = await folder();
    const receiver = command.start(
      'receive',
      'rdma:127.0.0.1:0',
      '--image',
      join(at, 'vm'),
      '--commit',
      'off',
      '--json',
    );
    const { uri } = await receiver.waitForEvent('listening');
    const sent = await command.run('send', '--again', image, String(uri), '--verify');
    expect([sent.code, sent.stderr]).toEqual([
      4,
      expect.stringMatching(
        /has no commit handshake .* migrate without verify.*\(VERSION_MISMATCH, phase negotiate\)/,
      ),
    ]);
    // Nothing has begun at the destination: it says who came, and waits on.
    const { message } = await receiver.waitForEvent('notice');
    expect(message).toContain('the destination has no commit handshake');
    receiver.kill('SIGTERM');
    expect((await receiver.ended).code).toBe(143);
    expect(await readdir(at)).toEqual([]);
  });

  it('says usage errors in JSON when it is asked to', async () => {
    for (const args of [
      ['send', image],
      ['send', image, 'rdma:x'],
    ]) {
      const ended = await command.run(...args, '--json');
      expect(ended).toMatchObject({ code: 2, stderr: '' });
      const code = expect.stringMatching(/^INVALID_(ARGUMENT|URI)$/);
      expect(lastError(ended)).toMatchObject({ event: 'error', code, phase: 'configure', 'exit-code': 2 });
    }
  });

  it('refuses to write a stream and lines of JSON to the same stdout', async () => {
    const { code, stdout, stderr } = await command.run('image', 'to-qemu', image, '-', '--json');
    expect([code, stdout, JSON.parse(stderr).code]).toEqual([2, '', 'INVALID_ARGUMENT']);
  });

  it('ends with 3 when nothing listens there, and says that the image is as it was', async () => {
    const uri = `rdma:127.0.0.1:${await closedPort()}`;
    const { code, stderr } = await command.run('send', '--again', image, uri);
    expect(code).toBe(3);
    expect(stderr).toMatch(
      /^rdma-migrate: .*\(CONNECTION_REFUSED, phase connect\)\nrdma-migrate: the image .* is as it was.*\n$/,
    );
    const json = await command.run('send', '--again', image, uri, '--json');
    expect(json).toMatchObject({ code: 3, stderr: '' });
    expect(lastError(json)).toMatchObject({
      event: 'error',
      code: 'CONNECTION_REFUSED',
      phase: 'connect',
      message: expect.any(String),
      details: expect.any(Object),
      'exit-code': 3,
      left: expect.stringContaining('as it was'),
    });
  });

  it('ends with 3 when no source comes within --timeout', async () => {
    const at = await folder();
    const { code, stderr } = await command.run(
      'receive',
      'rdma:127.0.0.1:0',
      '--image',
      join(at, 'vm'),
      '--timeout',
      '0.2',
    );
    expect([code, stderr]).toEqual([
      3,
      expect.stringMatching(/\(TIMEOUT, phase listen\)\nrdma-migrate: nothing was kept/),
    ]);
    expect(await readdir(at)).toEqual([]);
  });

  it('says who came instead of a source, and what they spoke, when none has come within --timeout', async () => {
    const at = await folder();
    const args = ['rdma:127.0.0.1:0', '--image', join(at, 'vm'), '--timeout', '5'];
    const receiver = command.start('receive', ...args);
    const [, port] = await receiver.waitForOutput(/listening at rdma:127\.0\.0\.1:(\d+)/);
    const qemu = createConnection(Number(port), '127.0.0.1');
    qemu.on('error', () => undefined);
    qemu.write(Buffer.from('5145564d00000003', 'hex'));
    await receiver.waitForMessage(/turned away: 127\.0\.0\.1:\d+ spoke QEMU's migration stream/);
    const { code, stderr } = await receiver.ended;
    qemu.destroy();
    expect([code, stderr]).toEqual([
      3,
      expect.stringMatching(/within 5 s, though somebody did: 127\.0\.0\.1:\d+ spoke QEMU's .*\(TIMEOUT,/),
    ]);
  });

  it('ends with 3 when the port is taken', async () => {
    const at = await folder();
    const first = command.start('receive', 'rdma:127.0.0.1:0', '--image', join(at, 'one'), '--json');
    const { uri } = await first.waitForEvent('listening');
    const second = await command.run('receive', String(uri), '--image', join(at, 'two'));
    expect([second.code, second.stderr]).toEqual([
      3,
      expect.stringContaining('(ADDRESS_IN_USE, phase listen)'),
    ]);
    first.kill('SIGTERM');
    expect((await first.ended).code).toBe(143);
    expect(await readdir(at)).toEqual([]);
  });

  it('ends with 6 when the image to send is missing, or the one to make is there', async () => {
    const missing = await command.run('send', join(command.work, 'no-vm'), 'rdma:127.0.0.1:1');
    expect([missing.code, missing.stderr]).toEqual([
      6,
      expect.stringContaining('(IMAGE_NOT_FOUND, phase image)'),
    ]);
    const inspected = await command.run('image', 'inspect', join(command.work, 'no-vm'), '--json');
    expect([inspected.code, lastError(inspected).code]).toEqual([6, 'IMAGE_NOT_FOUND']);
    const exists = await command.run('receive', 'rdma:127.0.0.1:0', '--image', image);
    expect([exists.code, exists.stdout, exists.stderr]).toEqual([
      6,
      '',
      expect.stringContaining('(IMAGE_EXISTS, phase image)'),
    ]);
  });

  it('ends with 7 for the provider verbs where no device leads', async () => {
    const { code, stderr } = await command.run(
      'send',
      '--again',
      image,
      'rdma:127.0.0.1:1',
      '--provider',
      'verbs',
    );
    expect([code, stderr]).toEqual([7, expect.stringContaining('(PROVIDER_UNAVAILABLE, phase ')]);
  });
});

interface Pair {
  readonly at: string;
  readonly receiver: RunningCommand;
  readonly sender: RunningCommand;
}

interface RamFields {
  readonly 'normal-bytes': number;
  readonly remaining: number;
}
const ramOf = (event: Event): RamFields => event.ram as RamFields;

/** Two commands in the middle of RAM: the destination has some of it. */
async function midway(sent = image, ...options: readonly string[]): Promise<Pair> {
  const at = await folder();
  const receiver = command.start(
    ...['receive', 'rdma:127.0.0.1:0', '--image', join(at, 'vm'), '--json', '--resume-window', '500ms'],
  );
  const { uri } = await receiver.waitForEvent('listening');
  const sender = command.start('send', sent, String(uri), '--json', ...SLOWLY, ...options);
  await receiver.waitForEvent('progress', (event) => ramOf(event)['normal-bytes'] > 0);
  return { at, receiver, sender };
}

/** Whether RAM was still on its way when it ended. */
function stoppedEarly({ stdout }: Ended): boolean {
  const last = eventsOf(stdout).findLast(({ event }) => event === 'progress');
  return last !== undefined && ramOf(last).remaining > 0;
}

/** A killed process's socket ends by FIN or RST, as it happens. */
const PEER_DIED = expect.stringMatching(/^CONNECTION_(LOST|CLOSED)$/);

describe('a migration that is ended in the middle', () => {
  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('by %s at the source: both ends end at once and nothing is kept', async (signal, code) => {
    const { at, receiver, sender } = await midway();
    sender.kill(signal);
    const [sent, received] = await Promise.all([sender.ended, receiver.ended]);
    expect([sent.code, received.code]).toEqual([code, 4]);
    expect([stoppedEarly(sent), stoppedEarly(received)]).toEqual([true, true]);
    expect(lastError(sent)).toMatchObject({
      code: 'CANCELLED',
      phase: 'ram',
      left: expect.stringContaining('is as it was'),
    });
    expect(lastError(received)).toMatchObject({
      code: 'PEER_ERROR',
      left: expect.stringContaining('nothing was kept'),
    });
    expect(await readdir(at)).toEqual([]);
  });

  it.each([
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const)('by %s at the destination: both ends end at once and nothing is kept', async (signal, code) => {
    const { at, receiver, sender } = await midway();
    receiver.kill(signal);
    const [sent, received] = await Promise.all([sender.ended, receiver.ended]);
    expect([sent.code, received.code]).toEqual([4, code]);
    expect([stoppedEarly(sent), stoppedEarly(received)]).toEqual([true, true]);
    expect(lastError(received)).toMatchObject({
      code: 'CANCELLED',
      left: expect.stringContaining('nothing was kept'),
    });
    expect(lastError(sent)).toMatchObject({
      code: 'PEER_ERROR',
      left: expect.stringContaining('is as it was'),
    });
    expect(await readdir(at)).toEqual([]);
  });

  it.each([
    { crc: 'on', channels: 1, options: ['--crc', '--channels', '1'] },
    { crc: 'on', channels: 2, options: ['--crc', '--channels', '2'] },
    { crc: 'off', channels: 1, options: ['--channels', '1'] },
    { crc: 'off', channels: 4, options: ['--channels', '4'] },
  ])(
    'by a file of RAM that is cut short under it, CRC $crc, channels: $channels: the source ends with 6 and says which',
    async ({ options }) => {
      const own = join(await folder(), 'vm');
      await (await syntheticImage(own, [{ name: 'pc.ram', length: 32n * MIB, fill: 'random' }])).close();
      const { at, receiver, sender } = await midway(own, ...options);
      const files = await Promise.all(
        (await readdir(own)).map(async (name) => ({ name, size: (await stat(join(own, name))).size })),
      );
      const ram = files.find(({ size }) => size === Number(32n * MIB)) ?? { name: 'no RAM', size: 0 };
      // After what has been sent by now, and before what will be.
      await truncate(join(own, ram.name), 8 << 20);
      const [sent, received] = await Promise.all([sender.ended, receiver.ended]);
      expect([sent.signal, sent.code, received.code]).toEqual([null, 6, expect.any(Number)]);
      expect(lastError(sent)).toMatchObject({ code: 'IO_ERROR', message: expect.stringContaining(ram.name) });
      expect(await readdir(at)).toEqual([]);
    },
  );

  it('by SIGINT while the destination waits: it ends with 130 and keeps nothing', async () => {
    const at = await folder();
    const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', join(at, 'vm'));
    await receiver.waitForOutput(/listening at/);
    receiver.kill('SIGINT');
    const { code, stderr } = await receiver.ended;
    expect([code, stderr]).toEqual([
      130,
      expect.stringMatching(/SIGINT: cancelling.*\n.*\(CANCELLED, phase listen\)\n/),
    ]);
    expect(await readdir(at)).toEqual([]);
  });

  it('by kill -9 at the source: the destination ends with 3 and keeps nothing', async () => {
    const { at, receiver, sender } = await midway();
    sender.kill('SIGKILL');
    const [sent, received] = await Promise.all([sender.ended, receiver.ended]);
    expect([sent.signal, received.code]).toEqual(['SIGKILL', 3]);
    expect(lastError(received)).toMatchObject({ code: PEER_DIED, 'exit-code': 3 });
    expect(await readdir(at)).toEqual([]);
  });

  it('by kill -9 at the destination: the source ends with 3, and the next receive keeps what was left for who goes on from it', async () => {
    const { at, receiver, sender } = await midway();
    receiver.kill('SIGKILL');
    const [sent, received] = await Promise.all([sender.ended, receiver.ended]);
    expect([sent.code, received.signal]).toEqual([3, 'SIGKILL']);
    expect(lastError(sent)).toMatchObject({
      code: PEER_DIED,
      left: expect.stringContaining('is as it was'),
    });
    const [left = ''] = await readdir(at);
    expect(left).toMatch(/^\.vm\.partial-/);
    const again = command.start('receive', 'rdma:127.0.0.1:0', '--image', join(at, 'vm'), '--json');
    const notice = await again.waitForEvent('notice');
    expect(notice.message).toContain(basename(left));
    again.kill('SIGINT');
    expect((await again.ended).code).toBe(130);
    expect(await readdir(at)).toEqual([left]);
  });
});
