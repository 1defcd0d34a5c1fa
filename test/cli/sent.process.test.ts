/** send marks its image, image inspect shows that, and image verify says whether it is what was received. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { MIB, syntheticImage } from '../support/images.ts';
import { buildCommand, type CommandFolder, eventsOf } from './command.ts';

let command: CommandFolder;
let image: string;

beforeAll(async () => {
  command = await buildCommand();
  image = join(command.work, 'vm');
  await (await syntheticImage(image, [{ name: 'pc.ram', length: 4n * MIB, fill: 'mixed' }])).close();
});
afterAll(() => command[Symbol.asyncDispose]());

describe('an image that was sent', () => {
  it('says so, is refused, and is sent again on demand; what arrives can be verified', async () => {
    const [first, second] = [join(command.work, 'first'), join(command.work, 'second')];
    const receive = async (target: string) => {
      const receiver = command.start('receive', 'rdma:127.0.0.1:0', '--image', target);
      const [, uri = ''] = await receiver.waitForOutput(/^listening at (\S+)\n/);
      return { receiver, uri };
    };
    const { receiver, uri } = await receive(first);
    const sent = await command.run('send', image, uri, '--json');
    const id = String(eventsOf(sent.stdout).at(-1)?.migrationId);
    expect([sent.code, (await receiver.ended).code]).toEqual([0, 0]);
    expect((await command.run('image', 'inspect', image)).stdout).toMatch(
      new RegExp(`\nSENT +20.* to ${uri}, migration ${id}, and confirmed there`),
    );
    const again = await receive(second);
    const refused = await command.run('send', image, again.uri, '--json');
    expect(refused.code).toBe(6);
    expect(eventsOf(refused.stdout).at(-1)).toMatchObject({
      event: 'error',
      code: 'IMAGE_SENT',
      message: expect.stringMatching(/holds the VM, which must run nowhere else.*--again/),
      details: { state: 'committed', migrationId: id, to: uri },
    });
    expect((await command.run('send', '--again', image, again.uri)).code).toBe(0);
    expect((await again.receiver.ended).code).toBe(0);
    const verified = await command.run('image', 'verify', second);
    expect(verified).toMatchObject({
      code: 0,
      stdout: expect.stringMatching(/^verified .*, all of it as it was/),
    });
    // The mark is no part of what was received.
    expect((await command.run('send', second, 'rdma:127.0.0.1:1')).stderr).toContain('CONNECTION_REFUSED');
    expect((await command.run('image', 'inspect', second)).stdout).not.toContain('SENT');
  });
});

describe('image verify', () => {
  it('finds damage, and says what it is not able to compare', async () => {
    const stream = join(command.work, 'stream');
    const [kept, bare] = [join(command.work, 'kept'), join(command.work, 'bare')];
    expect((await command.run('image', 'to-qemu', image, stream)).code).toBe(0);
    for (const line of [
      [stream, kept],
      [stream, bare, '--no-digests'],
    ])
      expect((await command.run('image', 'from-qemu', ...line)).code).toBe(0);
    const same = await command.run('image', 'verify', kept, '--json');
    expect([same.code, eventsOf(same.stdout).at(-1)]).toMatchObject([
      0,
      { event: 'completed', state: 'same' },
    ]);
    const unknown = await command.run('image', 'verify', bare);
    expect(unknown).toMatchObject({
      code: 6,
      stdout: '',
      stderr: expect.stringMatching(/NOTHING of it was compared.*\(IMAGE_UNVERIFIED, phase image\)/),
    });
    const ram = await readFile(join(kept, 'ram-0.bin'));
    ram[100_000] = (ram[100_000] as number) ^ 1;
    await writeFile(join(kept, 'ram-0.bin'), ram, { flag: 'r+' });
    const damaged = await command.run('image', 'verify', kept, '--json');
    expect([damaged.code, eventsOf(damaged.stdout).at(-1)]).toMatchObject([
      6,
      { event: 'error', code: 'IMAGE_INVALID', details: { differs: 'pc.ram' } },
    ]);
  });
});
