/** What unfinished images left in a folder. */
import { copyFile, mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { findLeftovers, ImageWriter, removeLeftover } from '../../lib/image/index.ts';
import { expectError, namesIn, SMALL_VM, temporaryFolder } from './support.ts';

const [first] = SMALL_VM.layout.blocks;
const BLOCK = first?.name ?? '';

/** As if the process that fills it had died. */
async function pretendDead(partial: string): Promise<void> {
  const file = `${partial}/owner.json`;
  const owner = JSON.parse(await readFile(file, 'utf8'));
  await writeFile(file, JSON.stringify({ ...owner, startTime: '1' }));
}

describe('leftovers', () => {
  it('are the unfinished images of all names, with their size and their files elsewhere', async () => {
    await using folder = await temporaryFolder();
    await using elsewhere = await temporaryFolder();
    const ram = elsewhere.at('ram');
    await using writer = await ImageWriter.open(folder.at('vm'), { ramFiles: { [BLOCK]: ram } });
    await writer.allocate(SMALL_VM);
    await mkdir(folder.at('.vm.partial-short'));
    await mkdir(folder.at('.old.partial-0123456789abcdef'));
    await writeFile(folder.at('.file.partial-0123456789abcdef'), '');
    await symlink('/', folder.at('.link.partial-0123456789abcdef'));
    const found = await findLeftovers(folder.path);
    expect(found).toMatchObject([
      { image: folder.at('old'), owner: 'unknown', bytes: 0n, outside: [] },
      { image: folder.at('vm'), owner: 'alive', pid: process.pid, outside: [ram] },
    ]);
    expect(found[1]?.bytes).toBeGreaterThan(0n);
    for (const leftover of found) expect(await removeLeftover(leftover)).toBe(false);
    expect(await findLeftovers(folder.path)).toHaveLength(2);
  });

  it('of a dead process go with the RAM files that it had made, but for one that was replaced', async () => {
    await using folder = await temporaryFolder();
    for (const replaced of [false, true]) {
      const ram = folder.at(`ram-${replaced}`);
      await using writer = await ImageWriter.open(folder.at('vm'), { ramFiles: { [BLOCK]: ram } });
      await writer.allocate(SMALL_VM);
      if (replaced) {
        await copyFile(ram, `${ram}.new`);
        await rename(`${ram}.new`, ram);
      }
      const [leftover] = await findLeftovers(folder.path);
      if (leftover === undefined) throw new Error('nothing is there');
      expect(leftover.outside).toEqual(replaced ? [] : [ram]);
      await pretendDead(leftover.path);
      expect(await removeLeftover(leftover)).toBe(true);
      expect(await namesIn(folder.path)).toEqual(replaced ? [`ram-${replaced}`] : []);
      // The writer's own end would remove the other one's file: this process is not really dead.
      if (replaced) await rename(ram, folder.at('kept'));
    }
  });

  it('of the same name go with their RAM files when the next image is begun, which can have them again', async () => {
    await using folder = await temporaryFolder();
    const ramFiles = { [BLOCK]: folder.at('ram') };
    await using dying = await ImageWriter.open(folder.at('vm'), { ramFiles });
    await dying.allocate(SMALL_VM);
    const [leftover] = await findLeftovers(folder.path);
    await pretendDead(leftover?.path ?? '');
    await using next = await ImageWriter.open(folder.at('vm'), { ramFiles });
    expect(next.removedPartials).toEqual([leftover?.path]);
    await next.allocate(SMALL_VM);
    await next.commit();
    expect(await namesIn(folder.at('vm'))).not.toContain('outside.json');
    await rename(folder.at('ram'), folder.at('kept'));
  });

  it('are looked for in folders alone', async () => {
    await using folder = await temporaryFolder();
    await writeFile(folder.at('file'), '');
    await expectError(findLeftovers(folder.at('none')), 'INVALID_ARGUMENT', 'there is no folder');
    await expectError(findLeftovers(folder.at('file')), 'INVALID_ARGUMENT', 'no folder');
  });
});
