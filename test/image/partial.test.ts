import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { chown, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { findPartials, ImageWriter } from '../../lib/image/index.ts';
import { startModule, waitForLine } from './child.ts';
import { deviceState, namesIn, SMALL_VM, temporaryFolder } from './support.ts';

describe('partial images', () => {
  it('are all that a killed receiver leaves: no image, and the next receiver clears them away', async () => {
    await using folder = await temporaryFolder();
    const child = startModule('./kill-child.ts', [folder.at('vm')]);
    try {
      await waitForLine(child, 'received');
      expect(await findPartials(folder.at('vm'))).toMatchObject([{ owner: 'alive', pid: child.pid }]);
    } finally {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    }
    const [partial] = await findPartials(folder.at('vm'));
    expect(partial).toMatchObject({ owner: 'dead', pid: child.pid });
    expect(await namesIn(folder.path)).toHaveLength(1);
    await using writer = await ImageWriter.open(folder.at('vm'));
    expect(writer.removedPartials).toEqual([partial?.path]);
    await writer.allocate(SMALL_VM);
    await writer.append(deviceState());
    await writer.commit();
    expect(await namesIn(folder.path)).toEqual(['vm']);
  });

  it('of a living process are left alone', async () => {
    await using folder = await temporaryFolder();
    await using first = await ImageWriter.open(folder.at('vm'));
    await using second = await ImageWriter.open(folder.at('vm'));
    expect(second.removedPartials).toEqual([]);
    await first.allocate(SMALL_VM);
    await first.commit();
  });

  it('of an image with another name are not looked at', async () => {
    await using folder = await temporaryFolder();
    await using _other = await ImageWriter.open(folder.at('vm2'));
    expect(await findPartials(folder.at('vm'))).toEqual([]);
  });

  const dead = { pid: 2 ** 22 + 1, startTime: '1' };
  /** Without one an earlier boot cannot be told from another machine. */
  const hasMachineId = (): boolean =>
    existsSync('/etc/machine-id') && /^[0-9a-f]{32}$/m.test(readFileSync('/etc/machine-id', 'latin1'));
  it.each<[string, (owner: Record<string, unknown>) => Record<string, unknown> | string, string]>([
    ['whose process is gone', (owner) => ({ ...owner, ...dead }), 'dead'],
    ['whose pid belongs to a later process', (owner) => ({ ...owner, startTime: '1' }), 'dead'],
    [
      'of an earlier boot on a local disk',
      (owner) => ({ ...owner, bootId: 'another' }),
      hasMachineId() ? 'dead' : 'unknown',
    ],
    [
      'of another machine that has this disk too',
      (owner) => ({ ...owner, bootId: 'another', machineId: 'f'.repeat(32) }),
      'unknown',
    ],
    ['of another pid namespace', (owner) => ({ ...owner, ...dead, pidNamespace: 'pid:[1]' }), 'unknown'],
    ['with a damaged owner file', () => '{"pid":', 'unknown'],
    ['with an owner file of another form', (owner) => ({ ...owner, pid: '1' }), 'unknown'],
  ])('are judged by their owner file: one %s', async (_what, change, owner) => {
    await using folder = await temporaryFolder('/dev/shm');
    await using writer = await ImageWriter.open(folder.at('vm'));
    const name = (await namesIn(folder.path))[0] ?? '';
    const self = JSON.parse(await readFile(folder.at(`${name}/owner.json`), 'utf8'));
    const changed = change(self);
    const fake = folder.at('.vm.partial-0000000000000000');
    await mkdir(fake);
    await writeFile(`${fake}/owner.json`, typeof changed === 'string' ? changed : JSON.stringify(changed));
    const found = await findPartials(folder.at('vm'));
    expect(found.find(({ path }) => path === fake)?.owner).toBe(owner);
    await writer.abort();
    await using next = await ImageWriter.open(folder.at('vm'));
    expect(next.removedPartials).toEqual(owner === 'dead' ? [fake] : []);
  });

  it('are not followed through a link, nor removed when they are another user’s', async (context) => {
    if (process.geteuid?.() !== 0) context.skip('only root can give a folder to another user');
    await using folder = await temporaryFolder();
    const owner = JSON.stringify({ pid: 2 ** 22 + 1, startTime: '1', pidNamespace: 'x', bootId: 'y' });
    for (const name of ['target', '.vm.partial-1111111111111111']) {
      await mkdir(folder.at(name));
      await writeFile(folder.at(`${name}/owner.json`), owner);
    }
    await chown(folder.at('.vm.partial-1111111111111111'), 12345, 12345);
    await symlink('target', folder.at('.vm.partial-2222222222222222'));
    const found = await findPartials(folder.at('vm'));
    expect(found.map((partial) => partial.owner)).toEqual(['unknown', 'unknown']);
  });
});
