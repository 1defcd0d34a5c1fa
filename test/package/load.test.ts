/** Which addon is taken, and what is said when none is there or it does not load. */
import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { expect, it } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import type { NativeDevices } from '../../lib/native/devices.ts';
import {
  addonFiles,
  buildCommand,
  findAddon,
  glibcVersion,
  loadAddon,
  prebuiltNeeds,
} from '../../lib/native/load.ts';
import { temporaryFolder } from '../support/temp.ts';

async function put(path: string, content: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, content);
}

function failureOf(folder: string): MigrationError {
  try {
    loadAddon(folder);
  } catch (error) {
    if (error instanceof MigrationError) return error;
  }
  throw new Error('expected a MigrationError');
}

it('takes a local build before a prebuilt addon', async () => {
  await using folder = await temporaryFolder();
  const files = addonFiles(`${folder.path}/`);
  const [local, prebuilt] = files.map(({ path }) => path) as [string, string];
  expect(findAddon(files)).toBeUndefined();
  await put(prebuilt, '');
  expect(findAddon(files)).toEqual({ path: prebuilt, kind: 'prebuilt' });
  await put(local, '');
  expect(findAddon(files)).toEqual({ path: local, kind: 'local build' });
});

it('names every file that it looked for', async () => {
  await using folder = await temporaryFolder();
  const { code, message } = failureOf(`${folder.path}/`);
  expect(code).toBe('PROVIDER_UNAVAILABLE');
  expect(message).toContain(join(folder.path, 'build/Release/rdma_migrate.node'));
  expect(message).toContain(
    join(folder.path, `prebuilds/${process.platform}-${process.arch}/rdma_migrate.node`),
  );
});

it('says which file does not load, why, and what to do', async () => {
  await using folder = await temporaryFolder();
  const [local, prebuilt] = addonFiles(`${folder.path}/`).map(({ path }) => path) as [string, string];
  await put(prebuilt, 'no shared object');
  expect(failureOf(`${folder.path}/`).message).toMatch(
    /linux-\S+ \(prebuilt\) and does not load: .*glibc 2\.28/,
  );
  await put(local, 'no shared object');
  const { message, cause } = failureOf(`${folder.path}/`);
  expect(message).toContain(`${local} (local build) and does not load`);
  expect(message).toContain('remove the folder build');
  expect(cause).toBeInstanceOf(Error);
});

it('tells what lacks the verbs provider the same command', async () => {
  await using folder = await temporaryFolder();
  const [path] = addonFiles(`${folder.path}/`).map((file) => file.path) as [string, string];
  await mkdir(dirname(path), { recursive: true });
  await copyFile(findAddon()?.path as string, path);
  // The plugin is looked for beside the addon, and is not there.
  const addon = loadAddon(`${folder.path}/`) as Pick<NativeDevices, 'verbsProblem'>;
  expect(addon.verbsProblem()?.remedy).toContain(buildCommand(`${folder.path}/`));
});

it('tells another C library from an old glibc', () => {
  expect(glibcVersion()).toMatch(/^2\.\d+$/);
  expect(prebuiltNeeds(undefined)).toMatch(/this Node runs on another C library \(musl/);
  expect(buildCommand('/home/a/checkout/', true)).toMatch(/^apt-get install/);
  expect(buildCommand('/home/a/checkout/', false)).toMatch(/^apk add .*npm run build:native/);
  expect(prebuiltNeeds('2.27')).toContain('here is 2.27');
});

it('names scripts only where they are: in a checkout', () => {
  expect(buildCommand('/home/a/checkout/')).toContain('npm run build:native');
  expect(buildCommand('/home/a/project/node_modules/rdma-migrate/')).toMatch(
    /npx cmake-js rebuild -d node_modules\/rdma-migrate$/,
  );
});
