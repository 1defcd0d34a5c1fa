import { type ChildProcess, execFile } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { open, readdir, readFile, readlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import { startModule, waitForLine } from '../image/child.ts';
import { temporaryFolder } from '../support/temp.ts';

const PAGES = 64;
const PAGE = 4096;
const READ = 1 << 20;

/** One line for each page, so that a part of the RAM is found as well. */
function ramOf(pattern: Buffer): Buffer {
  const ram = Buffer.alloc(PAGES * PAGE);
  for (let page = 0; page < PAGES; page++) pattern.copy(ram, page * PAGE + 100);
  return ram;
}

/** Starts the child, whose memfd is filled from here: what it has in its own heap would be in the dump too. */
async function startChild(folder: string, patterns: Patterns, environment: string): Promise<ChildProcess> {
  await writeFile(join(folder, 'ram'), ramOf(patterns.file));
  const child = startModule('../memory/core-child.ts', [folder, String(PAGES * PAGE)], {
    RDMA_MIGRATE_CORE_DUMPS: environment,
  });
  await waitForLine(child, 'mapped');
  const fds = `/proc/${child.pid}/fd`;
  for (const name of await readdir(fds)) {
    if (!(await readlink(join(fds, name)).catch(() => '')).startsWith('/memfd:core-test')) continue;
    const memfd = await open(join(fds, name), 'r+');
    await memfd.write(ramOf(patterns.memfd));
    await memfd.close();
  }
  return child;
}

interface Patterns {
  readonly file: Buffer;
  readonly memfd: Buffer;
}

const randomPatterns = (): Patterns => ({ file: randomBytes(64), memfd: randomBytes(64) });

/** The flags of the areas of `smaps` whose name has that in it. */
async function flagsOf(pid: number, name: string): Promise<string[]> {
  const areas = (await readFile(`/proc/${pid}/smaps`, 'utf8')).split(/^(?=[0-9a-f]+-[0-9a-f]+ )/m);
  const named = areas.filter((area) => area.split('\n', 1)[0]?.includes(name));
  return named.map((area) => /^VmFlags: (.*)$/m.exec(area)?.[1] ?? '');
}

async function has(path: string, pattern: Buffer): Promise<boolean> {
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.alloc(READ + pattern.length);
    for (let position = 0; ; position += READ) {
      const { bytesRead } = await file.read(buffer, 0, buffer.length, position);
      if (bytesRead === 0) return false;
      if (buffer.subarray(0, bytesRead).includes(pattern)) return true;
    }
  } finally {
    await file.close();
  }
}

/** Why this machine makes no core file where a test finds it; undefined: it does. */
async function noCores(): Promise<string | undefined> {
  const pattern = (await readFile('/proc/sys/kernel/core_pattern', 'utf8')).trim();
  if (pattern.startsWith('|') || pattern.includes('/')) return `core_pattern is '${pattern}'`;
  const hard = /^Max core file size\s+\S+\s+(\S+)/m.exec(await readFile('/proc/self/limits', 'utf8'))?.[1];
  return hard === 'unlimited' ? undefined : `the hard limit of core files is ${hard}`;
}

/** Ends the child; the path of its core. */
async function coreOf(child: ChildProcess, folder: string): Promise<string> {
  await promisify(execFile)('prlimit', ['--pid', String(child.pid), '--core=unlimited']);
  const ended = once(child, 'exit');
  child.kill('SIGABRT');
  expect((await ended)[1]).toBe('SIGABRT');
  const core = (await readdir(folder)).find((name) => name.startsWith('core'));
  expect(core, 'a core file').toBeDefined();
  return join(folder, core as string);
}

describe('the RAM of a VM in a process that crashes', () => {
  it('is marked to be left out, file and memfd', async () => {
    await using folder = await temporaryFolder();
    const child = await startChild(folder.path, randomPatterns(), '');
    for (const name of [`${folder.path}/ram`, '/memfd:core-test']) {
      const flags = await flagsOf(child.pid as number, name);
      expect(flags).not.toEqual([]);
      for (const each of flags) expect(each.split(' ')).toContain('dd');
    }
    child.kill('SIGKILL');
    await once(child, 'exit');
  });

  it.each([
    ['is not in its core dump', '', false],
    ['is there when it was asked for', 'with-ram', true],
  ])('%s', async (_what, environment, found) => {
    const why = await noCores();
    if (why !== undefined) {
      console.log(`skipped: no core dump can be made here: ${why}`);
      return;
    }
    await using folder = await temporaryFolder();
    const patterns = randomPatterns();
    const child = await startChild(folder.path, patterns, environment);
    const core = await coreOf(child, folder.path);
    expect(await has(core, patterns.file)).toBe(found);
    expect(await has(core, patterns.memfd)).toBe(found);
  });
});
