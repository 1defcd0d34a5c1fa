/** `send --continue` after a receive that was killed: what it has left is compared, and nothing of it is believed. */
import {
  chmod,
  cp,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  rename,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { differingFiles, MIB, syntheticImage } from '../support/images.ts';
import { seededRandom } from '../support/seed.ts';
import { buildCommand, type CommandFolder, type Event, eventsOf } from './command.ts';

const RAM = 24n * MIB;
const CHUNK = Number(2n * MIB);
const random = seededRandom('continue');
let command: CommandFolder;
let image: string;
/** What the killed receive has left: a folder with its partial directory. */
let left: string;

const sentOf = (event: Event): number => (event.ram as Record<string, number>)['normal-bytes'] ?? 0;

beforeAll(async () => {
  command = await buildCommand();
  image = join(command.work, 'vm');
  const blocks = [
    { name: 'pc.ram', length: RAM, fill: 'random' },
    { name: 'other', length: 3n * MIB, fill: 'mixed' },
  ] as const;
  await (await syntheticImage(image, blocks)).close();
  left = join(command.work, 'left');
  await mkdir(left);
  const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', join(left, 'vm'), '--json');
  const { uri } = await receiver.waitForEvent('listening');
  const sender = command.start('send', image, String(uri), '--json', '--max-bandwidth', '16M');
  const enough = Number(4n * MIB) + Math.floor(random() * Number(8n * MIB));
  await receiver.waitForEvent('progress', (event) => sentOf(event) > enough);
  receiver.kill('SIGKILL');
  await Promise.all([receiver.ended, sender.ended]);
}, 60_000);
afterAll(() => command[Symbol.asyncDispose]());

const partialIn = async (at: string): Promise<string> => join(at, (await readdir(at))[0] ?? '');

/** Receives into a copy of what was left, after `change`, and sends again. */
async function again(name: string, change: (partial: string) => Promise<unknown>, ...options: string[]) {
  const at = join(command.work, name.replaceAll(' ', '-'));
  await cp(left, at, { recursive: true, preserveTimestamps: true });
  const partial = await partialIn(at);
  await chmod(partial, 0o700);
  await change(partial);
  const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', join(at, 'vm'), '--json');
  const { uri } = await receiver.waitForEvent('listening');
  const sender = command.start('send', '--again', image, String(uri), '--json', ...options);
  const [sent, received] = await Promise.all([sender.ended, receiver.ended]);
  expect([sent.code, received.code], sent.stdout.slice(-600) + received.stdout.slice(-600)).toEqual([0, 0]);
  expect(await differingFiles(image, join(at, 'vm'))).toEqual([]);
  expect(await readdir(at)).toEqual(['vm']);
  expect(await readdir(join(at, 'vm'))).not.toContain('earlier');
  return { at, result: eventsOf(sent.stdout).at(-1) as Event, events: eventsOf(sent.stdout) };
}

const ram = (partial: string): string => join(partial, 'ram-0.bin');

/** Some bytes within as many chunks. */
async function spoil(partial: string): Promise<void> {
  const file = await open(ram(partial), 'r+');
  for (let at = 0; at < 3; at += 1)
    await file.write(Buffer.from([at, 1, 2]), 0, 3, Math.floor(random() * (Number(RAM) - 3)));
  await file.close();
}

it.each<[string, (partial: string) => Promise<unknown>]>([
  ['as it was', async () => {}],
  ['with bytes changed', spoil],
  ['cut short', (partial) => truncate(ram(partial), 5_000_000)],
  ['longer than the block', (partial) => truncate(ram(partial), Number(RAM) + 4096)],
])('goes on from RAM %s, and sends what differs', async (name, change) => {
  const { result } = await again(name, change, '--continue');
  const continued = Number(result.continued);
  expect(continued).toBeGreaterThanOrEqual(CHUNK);
  expect(sentOf(result)).toBeLessThanOrEqual(Number(RAM + 3n * MIB) - continued);
  expect(result.percentage).toBe(100);
});

it('takes no file that is a link, or that others may read', async () => {
  const elsewhere = join(command.work, 'elsewhere');
  await writeFile(elsewhere, 'somebody’s');
  const { result } = await again(
    'links',
    async (partial) => {
      await rename(ram(partial), join(partial, 'kept'));
      await symlink(elsewhere, ram(partial));
      await chmod(join(partial, 'ram-1.bin'), 0o644);
    },
    '--continue',
  );
  expect(await readFile(elsewhere, 'utf8')).toBe('somebody’s');
  expect(Number(result.continued)).toBeLessThan(Number(RAM));
  expect((await lstat(join(command.work, 'links', 'vm', 'ram-0.bin'))).isFile()).toBe(true);
});

it('sends everything where nothing was left, or it is not asked to go on', async () => {
  const fresh = join(command.work, 'nothing');
  await mkdir(fresh);
  const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', join(fresh, 'vm'), '--json');
  const { uri } = await receiver.waitForEvent('listening');
  const sender = command.start('send', '--again', image, String(uri), '--json', '--continue');
  const [sent] = await Promise.all([sender.ended, receiver.ended]);
  expect(sent.code).toBe(0);
  const events = eventsOf(sent.stdout);
  expect(events.find(({ event }) => event === 'notice')).toMatchObject({ code: 'NOTHING_TO_CONTINUE' });
  expect(events.at(-1)).not.toHaveProperty('continued');
  const { result } = await again('not asked', async () => {});
  expect(result).not.toHaveProperty('continued');
});

it('makes a file outside the image anew, and goes on from those within', async () => {
  const at = join(command.work, 'outside');
  await mkdir(at);
  const receive = ['receive', 'rdma:127.0.0.1:0', '--image', join(at, 'vm'), '--json'];
  const outside = ['--ram-file', `other=${join(at, 'other.ram')}`];
  const dies = command.start(...receive, ...outside);
  const first = command.start(
    ...['send', '--again', image, String((await dies.waitForEvent('listening')).uri), '--json'],
    ...['--max-bandwidth', '16M'],
  );
  await dies.waitForEvent('progress', (event) => sentOf(event) > CHUNK * 2);
  dies.kill('SIGKILL');
  await Promise.all([dies.ended, first.ended]);
  const receiver = command.start(...receive, ...outside);
  const { uri } = await receiver.waitForEvent('listening');
  const sender = command.start('send', '--again', image, String(uri), '--json', '--continue');
  const [sent, received] = await Promise.all([sender.ended, receiver.ended]);
  expect([sent.code, received.code], sent.stdout.slice(-600) + received.stdout.slice(-600)).toEqual([0, 0]);
  expect(Number(eventsOf(sent.stdout).at(-1)?.continued)).toBeGreaterThanOrEqual(CHUNK);
  expect((await readdir(at)).sort()).toEqual(['other.ram', 'vm']);
});
