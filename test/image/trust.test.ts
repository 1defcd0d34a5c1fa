import { chmod, chown, lchown, link, mkdir, readFile, rename, symlink, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import { ImageWriter, inspect, openImage, toQemu } from '../../lib/image/index.ts';
import { checkPossession } from '../../lib/image/trust.ts';
import { deviceState, expectError, leftOpen, namesIn, PAGE, SMALL_VM, temporaryFolder } from './support.ts';

const NOBODY = 65534;
const asRoot = process.geteuid?.() === 0;

async function makeImage(path: string): Promise<void> {
  await using writer = await ImageWriter.open(path);
  await writer.allocate(SMALL_VM);
  await writer.append(deviceState());
  await writer.commit();
}

async function give(path: string): Promise<void> {
  for (const name of await namesIn(path)) await chown(`${path}/${name}`, NOBODY, NOBODY);
  await chown(path, NOBODY, NOBODY);
}

describe('whose an image may be', () => {
  it.each([
    ['its user, to whom alone it is open', { uid: 1000, mode: 0o100600 }],
    ['its user, and others may read it', { uid: 1000, mode: 0o100644 }],
    ['root', { uid: 0, mode: 0o100600 }],
  ])('takes what belongs to %s', (_whose, possession) => {
    expect(() => checkPossession(possession, 1000, '/vm')).not.toThrow();
  });

  it.each([
    ['another user', { uid: 1001, mode: 0o100600 }, 'chown'],
    ['its user, and its group may write it', { uid: 1000, mode: 0o100620 }, 'chmod go-w /vm'],
    ['root, and everybody may write it', { uid: 0, mode: 0o40777 }, 'mode 0777'],
  ])('refuses what belongs to %s', async (_whose, possession, says) => {
    await expectError(() => checkPossession(possession, 1000, '/vm'), 'PERMISSION_DENIED', says);
  });

  it('refuses what belongs to another user also for root', async () => {
    await expectError(() => checkPossession({ uid: 1000, mode: 0o600 }, 0, '/vm'), 'PERMISSION_DENIED');
  });
});

describe('an image that others may write', () => {
  it.each(['', '/manifest.json', '/before.bin', '/after.bin', '/ram-0.bin'])(
    'is refused for the mode of %s',
    async (name) => {
      await using folder = await temporaryFolder();
      await makeImage(folder.at('vm'));
      await chmod(folder.at(`vm${name}`), name === '' ? 0o770 : 0o666);
      await expectError(openImage(folder.at('vm')), 'PERMISSION_DENIED', `vm${name} has mode`, 'chmod go-w');
      expect(await leftOpen(folder.path)).toEqual([]);
    },
  );

  it('is refused for the mode of a file outside', async () => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    await writeFile(folder.at('ram'), Buffer.alloc(16 * PAGE));
    await chmod(folder.at('ram'), 0o622);
    const ramFiles = { 'pc.ram': folder.at('ram') };
    await expectError(openImage(folder.at('vm'), { ramFiles }), 'PERMISSION_DENIED', 'ram has mode 0622');
  });
});

describe.runIf(asRoot)('an image of nobody that root is given', () => {
  /** An image whose manifest names a file of root's as RAM. */
  async function trap(path: string, secret: string): Promise<void> {
    await makeImage(path);
    const manifest = JSON.parse(await readFile(`${path}/manifest.json`, 'utf8'));
    const { file: _file, ...block } = manifest.blocks[0];
    manifest.blocks[0] = { ...block, external: { path: secret, inode: '1' } };
    await writeFile(`${path}/manifest.json`, JSON.stringify(manifest));
  }

  async function secretIn(path: string): Promise<string> {
    await writeFile(path, Buffer.alloc(16 * PAGE, 's'), { mode: 0o600 });
    return path;
  }

  it('does not make root send a file of its own', async () => {
    await using folder = await temporaryFolder();
    await trap(folder.at('vm'), await secretIn(folder.at('secret')));
    await give(folder.at('vm'));
    await expectError(openImage(folder.at('vm')), 'PERMISSION_DENIED', `belongs to user ${NOBODY}`);
    await expectError(inspect(folder.at('vm')), 'PERMISSION_DENIED');
    await expectError(toQemu(folder.at('vm'), process.stdout), 'PERMISSION_DENIED');
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it('does not do so either when it has been made root’s by a copy', async () => {
    await using folder = await temporaryFolder();
    await trap(folder.at('vm'), await secretIn(folder.at('secret')));
    await expectError(openImage(folder.at('vm')), 'INVALID_ARGUMENT', '--ram-file pc.ram=PATH', 'secret');
    expect((await inspect(folder.at('vm'))).blocks[0]?.allocated).toBeUndefined();
  });

  it('does not do so by a hard link among its files', async () => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    await give(folder.at('vm'));
    await link(await secretIn(folder.at('secret')), folder.at('vm/ram-9.bin'));
    const manifest = await readFile(folder.at('vm/manifest.json'), 'utf8');
    await writeFile(folder.at('vm/manifest.json'), manifest.replace('ram-0.bin', 'ram-9.bin'));
    await expectError(openImage(folder.at('vm')), 'PERMISSION_DENIED', `vm belongs to user ${NOBODY}`);
  });

  it.each(['manifest.json', 'after.bin', 'ram-1.bin'])('is refused for its %s alone', async (name) => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    await chown(folder.at(`vm/${name}`), NOBODY, NOBODY);
    await expectError(openImage(folder.at('vm')), 'PERMISSION_DENIED', `${name} belongs to user ${NOBODY}`);
  });

  it('is refused for a file outside that is another user’s', async () => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    await mkdir(folder.at('outside'));
    await secretIn(folder.at('outside/ram'));
    await chown(folder.at('outside/ram'), NOBODY, NOBODY);
    const ramFiles = { 'pc.ram': folder.at('outside/ram') };
    await expectError(openImage(folder.at('vm'), { ramFiles }), 'PERMISSION_DENIED', 'outside/ram belongs');
  });

  it.each(['link', 'way/vm'])('is refused through a link of nobody: %s', async (path) => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    await symlink('vm', folder.at('link'));
    await symlink(folder.path, folder.at('way'));
    await (await openImage(folder.at(path))).close();
    const [name = ''] = path.split('/');
    await lchown(folder.at(name), NOBODY, NOBODY);
    await expectError(openImage(folder.at(path)), 'PERMISSION_DENIED', `belongs to user ${NOBODY}`, 'link');
    expect(await leftOpen(folder.path)).toEqual([]);
  });

  it('is refused where a file outside is reached through a link of nobody', async () => {
    await using folder = await temporaryFolder();
    await makeImage(folder.at('vm'));
    await mkdir(folder.at('real'));
    await secretIn(folder.at('real/ram'));
    await symlink('real', folder.at('way'));
    const ramFiles = { 'pc.ram': folder.at('way/ram') };
    await (await openImage(folder.at('vm'), { ramFiles })).close();
    await lchown(folder.at('way'), NOBODY, NOBODY);
    await expectError(openImage(folder.at('vm'), { ramFiles }), 'PERMISSION_DENIED', 'symbolic link');
  });
});

describe('the way to an image', () => {
  it('may have links of its user, one after the other, and parents', async () => {
    await using folder = await temporaryFolder();
    await mkdir(folder.at('deep/er'), { recursive: true });
    await makeImage(folder.at('vm'));
    await symlink('../../vm', folder.at('deep/er/b'));
    await symlink('deep/er/b', folder.at('a'));
    await (await openImage(folder.at('a'))).close();
    await rename(folder.at('vm'), folder.at('elsewhere'));
    await expectError(openImage(folder.at('a')), 'IMAGE_NOT_FOUND', 'there is no image');
  });

  it('ends where links lead in a circle', async () => {
    await using folder = await temporaryFolder();
    await symlink('b', folder.at('a'));
    await symlink('a', folder.at('b'));
    await expectError(openImage(folder.at('a')), 'IO_ERROR', 'too many links');
    expect(await leftOpen(folder.path)).toEqual([]);
  });
});
