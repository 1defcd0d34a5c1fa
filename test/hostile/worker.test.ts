/** A worker thread that is terminated takes its migrations with it, and nothing else. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

async function run(child: string): Promise<string> {
  const path = fileURLToPath(new URL(`./children/${child}.mjs`, import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [path], { timeout: 50_000 });
  return stdout;
}

it('the process survives workers that are terminated in the middle of a migration', async () => {
  expect(await run('terminated-worker')).toBe('survived\n');
});

it('a worker that is terminated while it begins to listen leaves the port free', async () => {
  expect(await run('terminated-listener')).toBe('free\n');
});

it('a worker that is terminated hangs up on every peer whose request was waiting for it', async () => {
  expect(await run('terminated-requests')).toBe('150, then 0\n');
});

it('a worker that is terminated leaves nothing of its queue pairs', async () => {
  expect(await run('terminated-verbs')).toBe('survived: nothing left\n');
});
