/**
 * The package as npm installs it in an empty folder, without running a script. Its prebuilt addon is this checkout's build: that of a release
 * takes long to build, and `npm run test:install` installs it on other systems. npm asks the registry for what the package depends on.
 */
import { execFile } from 'node:child_process';
import { cp } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';
import { makeProject, NPM_INSTALL } from '../../packaging/install/consumer.ts';
import { npmPack, stage } from '../../packaging/pack/stage.ts';
import { temporaryFolder } from '../support/temp.ts';

const CHECKOUT = new URL('../../', import.meta.url).pathname;
const run = promisify(execFile);
/** npm works for seconds where others do for milliseconds. */
const TIMEOUT_MS = 300_000;

it(
  'is imported, required, loaded by workers, examined by doctor, and moves an image',
  async () => {
    await using folder = await temporaryFolder();
    const [staged, project] = [join(folder.path, 'staged'), join(folder.path, 'project')];
    await stage(CHECKOUT, staged, ['dist']);
    await cp(join(CHECKOUT, 'build/Release'), join(staged, `prebuilds/linux-${process.arch}`), {
      recursive: true,
    });
    const { filename } = await npmPack(staged, folder.path);
    await makeProject(project, join(folder.path, filename), CHECKOUT);
    await run('npm', [...NPM_INSTALL, '--prefer-offline', './package.tgz'], { cwd: project });
    const { stdout } = await run(process.execPath, ['check.mjs', 'prebuilt'], { cwd: project });
    expect(stdout.split('\n')).toEqual([
      expect.stringMatching(/import and require: \d+ exports/),
      expect.stringContaining('a worker thread loads it'),
      expect.stringContaining('doctor: ready'),
      expect.stringContaining('an image moves through 127.0.0.1, and is the same'),
      '',
    ]);
  },
  TIMEOUT_MS,
);
