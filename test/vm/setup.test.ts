import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { moduleFiles } from './initramfs.ts';
import { dependencies, kernelVersion } from './kernel.ts';
import { withLock } from './lock.ts';
import { missingPackages } from './packages.ts';
import { cacheFolder } from './setup.ts';

describe('the answers of the packaging tools', () => {
  it('give the one kernel that the meta-package stands for', () => {
    const listing = 'linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n  Suggests: linux-doc-6.1\n';
    expect(kernelVersion(listing)).toBe('6.1.0-56-amd64');
    expect(kernelVersion('linux-image-amd64\n')).toBeUndefined();
  });

  it('give dependencies, alternatives included, and nothing virtual', () => {
    const listing = 'x\n  Depends: linux-kbuild-6.1\n |Depends: a\n  Depends: <b>\n    c\n  Recommends: d\n';
    expect(dependencies(listing)).toEqual(['linux-kbuild-6.1', 'a']);
  });

  it('give what is not installed, also when it was and its configuration is left', () => {
    const listing = 'kmod installed\nmake config-files\nqemu-system-x86 not-installed\n';
    expect(missingPackages(['kmod', 'make', 'qemu-system-x86', 'perftest'], listing)).toEqual([
      'make',
      'qemu-system-x86',
      'perftest',
    ]);
  });

  it('give module files in the order in which they must be loaded', () => {
    const listing = 'builtin virtio\ninsmod /r/lib/modules/6/fs/netfs.ko\ninsmod /r/lib/modules/6/9p.ko \n';
    expect(moduleFiles(listing)).toEqual(['/r/lib/modules/6/fs/netfs.ko', '/r/lib/modules/6/9p.ko']);
  });
});

describe('the cache', () => {
  it('lies in XDG_CACHE_HOME, which counts only when it is absolute', () => {
    expect(cacheFolder({ XDG_CACHE_HOME: '/c' })).toBe('/c/rdma-migrate');
    expect(cacheFolder({ XDG_CACHE_HOME: 'c' })).toBe(cacheFolder({}));
  });
});

describe('the lock of the set-up', () => {
  let folder = '';
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-lock-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  it('lets one in at a time', async () => {
    const file = join(folder, 'shared');
    let inside = 0;
    const enter = () =>
      withLock(file, async () => {
        inside++;
        await new Promise((resolve) => setTimeout(resolve, 20));
        expect(inside).toBe(1);
        inside--;
      });
    await Promise.all([enter(), enter(), enter()]);
  });

  it('is free again when the work fails', async () => {
    const file = join(folder, 'failed');
    await expect(withLock(file, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(await withLock(file, async () => 'mine')).toBe('mine');
  });
});
