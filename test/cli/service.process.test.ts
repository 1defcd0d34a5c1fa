/** `receive --keep` as a process: many sources at once, some of which are broken, hostile or in the way. */
import { mkdtemp, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { differingFiles, MIB, syntheticImage } from '../support/images.ts';
import { buildCommand, type CommandFolder, eventsOf, type RunningCommand } from './command.ts';

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

async function service(...options: readonly string[]): Promise<Service> {
  const kept = await folder();
  const started = command.start('receive', 'rdma:127.0.0.1:0', '--keep', kept, '--json', ...options);
  const { uri } = await started.waitForEvent('listening');
  return { process: started, uri: String(uri), folder: kept };
}

const idOf = (stdout: string): string => String(eventsOf(stdout)[0]?.migrationId);

describe('receive --keep', () => {
  it('receives several at once, and one after them, each under its id, and ends with 0 when told to', async () => {
    const { process, uri, folder } = await service();
    const sent = await Promise.all(
      [1, 2, 3].map((channels) => command.run('send', image, uri, '--json', '--channels', String(channels))),
    );
    sent.push(await command.run('send', image, uri, '--json'));
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
});
