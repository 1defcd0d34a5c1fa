/** A guest that moves from process to process while it writes its RAM; cancels and kills at random moments, as the seed has them. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, it } from 'vitest';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));

beforeAll(async () => {
  await run('npx', ['tsc', '-p', 'tsconfig.examples.json'], { cwd: ROOT, timeout: 120_000 });
}, 120_000);

async function journey(...options: string[]): Promise<string> {
  const main = 'build/node/examples/embed/live/main.js';
  const { stdout } = await run(process.execPath, [main, '--mebibytes', '16', ...options], {
    cwd: ROOT,
    timeout: 150_000,
  });
  return stdout;
}

it.each(['write-protect', 'hash'])(
  'moves with %s, and every page is right each time',
  async (tracker) => {
    const said = await journey('--moves', '3', '--tracker', tracker);
    expect(said).toContain('3 moves, 0 broken attempts, no page lost or torn');
  },
  160_000,
);

it('runs on where it was after cancels and dead destinations', async () => {
  const said = await journey('--moves', '4', '--chaos', '--seed', String(Date.now() % 1000));
  expect(said).toMatch(/4 moves, \d+ broken attempts, no page lost or torn/);
}, 160_000);
