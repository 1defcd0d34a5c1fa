/** An image that was sent says so. */
import { chmod, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import {
  Departure,
  type DepartureOptions,
  type ImageReader,
  ImageWriter,
  inspect,
  openImage,
} from '../../lib/image/index.ts';
import { deviceState, expectError, namesIn, SMALL_VM, temporaryFolder } from './support.ts';

const TO = 'rdma:192.0.2.7:4444';
const ID = '01234567-89ab-4cde-8f01-23456789abcd';
const OTHER = 'fedcba98-7654-4321-8000-000000000000';

async function opened(path: string): Promise<ImageReader> {
  await using writer = await ImageWriter.open(path);
  await writer.allocate(SMALL_VM);
  await writer.append(deviceState());
  await writer.commit();
  return openImage(path);
}

type Outcome = 'committed' | 'unconfirmed' | MigrationError | 'killed';

/** Sends it as far as the outcome says. */
async function depart(
  image: ImageReader,
  outcome: Outcome,
  options: Partial<DepartureOptions> = {},
  id = ID,
) {
  await using departure = await Departure.of(image, { to: TO, ...options });
  const { vm } = departure;
  if (outcome === 'killed') return await vm.beforeCommit?.(id);
  return await departure.during(async () => {
    await vm.beforeCommit?.(id);
    if (outcome instanceof MigrationError) throw outcome;
    return { outcome };
  });
}

const error = (code: 'COMMIT_UNKNOWN' | 'CONNECTION_LOST') => new MigrationError(code, 'commit', 'lost');

describe('an image that leaves', () => {
  it.each([
    [
      'is confirmed',
      'committed',
      'committed',
      /sent on .* to rdma:192\.0\.2\.7:4444 .*must run nowhere else.*--again/,
    ],
    ['is not confirmed', 'unconfirmed', 'unconfirmed', /version 1 destination/],
    ['is lost on its way', error('COMMIT_UNKNOWN'), 'unknown', /not known whether/],
    ['is killed while it commits', 'killed', 'unknown', /not known whether/],
  ] as const)('and %s says so, and is sent again only on demand', async (_, outcome, state, says) => {
    await using folder = await temporaryFolder();
    const path = folder.at('vm');
    await using image = await opened(path);
    await depart(image, outcome).catch((thrown) => expect(thrown).toBe(outcome));
    expect((await inspect(path)).sent).toEqual({ state, migrationId: ID, to: TO, at: expect.any(String) });
    const refusal = await expectError(depart(image, 'committed'), 'IMAGE_SENT', says);
    expect(refusal.details).toMatchObject({ state, migrationId: ID });
    await depart(image, 'committed', { again: true }, OTHER);
    expect((await inspect(path)).sent).toMatchObject({ state: 'committed', migrationId: OTHER });
    expect((await namesIn(path)).filter((name) => name.includes('sent'))).toEqual(['sent.json']);
  });

  it('and stays after all has no mark, or the one that it had', async () => {
    await using folder = await temporaryFolder();
    await using image = await opened(folder.at('vm'));
    const lost = error('CONNECTION_LOST');
    await expect(depart(image, lost)).rejects.toBe(lost);
    expect((await inspect(folder.at('vm'))).sent).toBeUndefined();
    await depart(image, 'unconfirmed');
    await expect(depart(image, lost, { again: true }, OTHER)).rejects.toBe(lost);
    expect((await inspect(folder.at('vm'))).sent).toMatchObject({ state: 'unconfirmed', migrationId: ID });
  });

  it('twice at the same time leaves once', async () => {
    await using folder = await temporaryFolder();
    await using image = await opened(folder.at('vm'));
    await using first = await Departure.of(image, { to: TO });
    await using second = await Departure.of(image, { to: TO });
    await first.vm.beforeCommit?.(ID);
    const sending = second.during(async () => {
      await second.vm.beforeCommit?.(OTHER);
      return { outcome: 'committed' };
    });
    await expectError(sending, 'IMAGE_SENT', 'another process');
    expect((await inspect(folder.at('vm'))).sent).toMatchObject({ migrationId: ID });
  });

  it('with a mark that cannot be kept up to date has left all the same', async () => {
    await using folder = await temporaryFolder();
    await using image = await opened(folder.at('vm'));
    await using departure = await Departure.of(image, { to: TO, onUnmarked: (why) => told.push(why.code) });
    const told: string[] = [];
    const result = await departure.during(async () => {
      await departure.vm.beforeCommit?.(ID);
      await rm(folder.at('vm'), { recursive: true });
      return { outcome: 'committed' };
    });
    expect([result, told]).toEqual([{ outcome: 'committed' }, ['IO_ERROR']]);
  });
});

describe('a mark that somebody else wrote', () => {
  const good = { format: 'rdma-migrate sent', version: 1, state: 'committed', migrationId: ID, to: TO };
  it.each([
    ['nothing', ''],
    ['no JSON', '{'],
    ['a list', '[]'],
    ['too much', ' '.repeat(1 << 17)],
    ['a terminal’s commands', JSON.stringify({ ...good, at: '2026-01-01T00:00:00Z', to: '\u001b[2J' })],
    ['no time', JSON.stringify({ ...good, at: 'yesterday' })],
    ['another state', JSON.stringify({ ...good, at: '2026-01-01T00:00:00Z', state: 'never' })],
    ['members of its own', JSON.stringify({ ...good, at: '2026-01-01T00:00:00Z', more: 1 })],
  ])('and that is %s is no leave to send', async (_, text) => {
    await using folder = await temporaryFolder();
    await using image = await opened(folder.at('vm'));
    await writeFile(folder.at('vm/sent.json'), text, { mode: 0o600 });
    await expectError(depart(image, 'committed'), 'IMAGE_INVALID', 'sent.json');
    expect((await inspect(folder.at('vm'))).sent).toEqual({ problem: expect.stringContaining('sent.json') });
    await depart(image, 'committed', { again: true });
    expect(JSON.parse(await readFile(folder.at('vm/sent.json'), 'utf8'))).toMatchObject(good);
  });

  it.each([
    ['a link', (at: string, to: string) => symlink(to, at)],
    ['a folder', (at: string) => mkdir(at)],
    ['for everybody to write', (at: string) => writeFile(at, '{}').then(() => chmod(at, 0o666))],
  ] as const)('and that is %s is no leave to send', async (_, make) => {
    await using folder = await temporaryFolder();
    await using image = await opened(folder.at('vm'));
    await make(folder.at('vm/sent.json'), folder.at('elsewhere'));
    await expect(depart(image, 'committed')).rejects.toMatchObject({
      code: expect.stringMatching(/IMAGE_INVALID|PERMISSION_DENIED/),
    });
  });
});
