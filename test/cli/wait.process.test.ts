/** send --wait: a destination that comes up later. */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { differingFiles, MIB, syntheticImage } from '../support/images.ts';
import { buildCommand, type CommandFolder, eventsOf } from './command.ts';

let command: CommandFolder;
let image: string;

beforeAll(async () => {
  command = await buildCommand();
  image = join(command.work, 'vm');
  await (await syntheticImage(image, [{ name: 'pc.ram', length: 2n * MIB, fill: 'mixed' }])).close();
});
afterAll(() => command[Symbol.asyncDispose]());

/** Where nothing listens. An address of this process alone: nobody else takes that port of it meanwhile. */
async function nobodyHome(): Promise<string> {
  const host = `127.77.${(process.pid >> 8) & 255}.${process.pid & 255 || 1}`;
  const server = createServer().listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as { port: number };
  server.close();
  await once(server, 'close');
  return `rdma:${host}:${port}`;
}

describe('send --wait', () => {
  it('sends to a destination that comes up later, and says that it waits', async () => {
    const uri = await nobodyHome();
    const sender = command.start('send', image, uri, '--wait', '30s', '--connect-timeout', '5s', '--json');
    const waiting = await sender.waitForEvent('notice');
    expect(waiting).toMatchObject({
      code: 'WAITING_FOR_PEER',
      message: expect.stringMatching(/is not up yet, trying again for \d+ s/),
      details: { why: 'CONNECTION_REFUSED' },
    });
    const target = join(command.work, 'received');
    const received = command.run('receive', uri, '--image', target);
    const sent = await sender.ended;
    expect([sent.code, (await received).code]).toEqual([0, 0]);
    expect(await differingFiles(image, target)).toEqual([]);
    expect(eventsOf(sent.stdout).filter(({ event }) => event === 'notice')).toEqual([waiting]);
  });

  it('is ended by Ctrl-C', async () => {
    const sender = command.start('send', '--again', image, await nobodyHome(), '--wait', '1h');
    await sender.waitForMessage(/is not up yet, trying again for \d+ s/);
    sender.kill('SIGINT');
    expect(await sender.ended).toMatchObject({
      code: 130,
      stderr: expect.stringContaining('CANCELLED, phase connect'),
    });
  });

  it('ends with the reason when the time is over', async () => {
    const sent = await command.run('send', '--again', image, await nobodyHome(), '--wait', '300ms');
    expect([sent.code, sent.stderr]).toEqual([3, expect.stringMatching(/nothing listens on .*after 0\.3 s/)]);
  });
});
