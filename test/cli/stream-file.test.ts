/** The file that `image to-qemu` writes. */
import { once } from 'node:events';
import { readFile, stat, symlink, writeFile } from 'node:fs/promises';
import type { Writable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import { withOutputFile } from '../../lib/cli/stream-file.ts';
import { findPartials } from '../../lib/image/index.ts';
import { startModule, waitForLine } from '../image/child.ts';
import { expectError, namesIn, temporaryFolder } from '../image/support.ts';

const WAIT = { signal: new AbortController().signal, onWaiting: () => undefined };
const PARTIAL = expect.stringMatching(/^\.file\.partial-/);

const put = (output: Writable, text: string): Promise<unknown> =>
  new Promise((resolve) => output.write(text, resolve));

describe('a file that is written', () => {
  it('has its name when it is complete, and not before', async () => {
    await using folder = await temporaryFolder();
    await withOutputFile(folder.at('file'), WAIT, async (output) => {
      await put(output, 'all');
      expect(await namesIn(folder.path)).toEqual([PARTIAL]);
    });
    expect(await namesIn(folder.path)).toEqual(['file']);
    expect(await readFile(folder.at('file'), 'utf8')).toBe('all');
    expect((await stat(folder.at('file'))).mode & 0o777).toBe(0o600);
  });

  it('leaves no part of itself under its name when its writer is killed, and the next writer clears it away', async () => {
    await using folder = await temporaryFolder();
    const child = startModule('../cli/output-child.ts', [folder.at('file')]);
    try {
      await waitForLine(child, 'written');
      expect(await findPartials(folder.at('file'))).toMatchObject([{ owner: 'alive', pid: child.pid }]);
    } finally {
      const exited = once(child, 'exit');
      child.kill('SIGKILL');
      await exited;
    }
    expect(await namesIn(folder.path)).toEqual([PARTIAL]);
    await withOutputFile(folder.at('file'), WAIT, (output) => put(output, 'again'));
    expect(await namesIn(folder.path)).toEqual(['file']);
  });

  it('does not take the place of one that came meanwhile', async () => {
    await using folder = await temporaryFolder();
    const writing = withOutputFile(folder.at('file'), WAIT, () => writeFile(folder.at('file'), 'mine'));
    await expectError(writing, 'INVALID_ARGUMENT', 'exists and is not overwritten');
    expect(await namesIn(folder.path)).toEqual(['file']);
    expect(await readFile(folder.at('file'), 'utf8')).toBe('mine');
  });

  it('is refused where something has its name, a link that leads nowhere too, and goes when writing fails', async () => {
    await using folder = await temporaryFolder();
    await writeFile(folder.at('file'), 'mine');
    await symlink('nowhere', folder.at('link'));
    for (const name of ['file', 'link', 'none/file']) {
      await expectError(
        withOutputFile(folder.at(name), WAIT, async () => undefined),
        'INVALID_ARGUMENT',
      );
    }
    const failing = withOutputFile(folder.at('other'), WAIT, () => Promise.reject(new Error('no')));
    await expectError(failing, 'INTERNAL', 'no');
    expect(await namesIn(folder.path)).toEqual(['file', 'link']);
  });

  it('may be a device', async () => {
    await withOutputFile('/dev/null', WAIT, (output) => put(output, 'gone'));
    expect((await stat('/dev/null')).isCharacterDevice()).toBe(true);
  });
});
