/** A worker thread that is terminated takes its migrations with it, and nothing else. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { expect, it } from 'vitest';

it('the process survives workers that are terminated in the middle of a migration', async () => {
  const child = fileURLToPath(new URL('./children/terminated-worker.mjs', import.meta.url));
  const { stdout } = await promisify(execFile)(process.execPath, [child], { timeout: 50_000 });
  expect(stdout).toBe('survived\n');
});
