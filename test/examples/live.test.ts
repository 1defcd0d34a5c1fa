/** A guest that moves from process to process while it writes its RAM; cancels and kills at random moments, as the seed has them. */
import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, it } from 'vitest';
import { HOSTNAME } from '../support/authority.ts';
import { credentialSets } from '../support/credentials.ts';
import { testSeed } from '../support/seed.ts';

const sets = credentialSets();

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
    expect(said).toContain(
      '3 moves, 0 attempts cancelled, 0 broken by a killed destination, no page lost or torn',
    );
  },
  160_000,
);

it.each([
  ['x509', () => ['--tls-creds', sets.good, '--tls-hostname', HOSTNAME]],
  ['psk', () => ['--tls-creds', sets.psk]],
])(
  'moves protected, with %s',
  async (_, credentials) => {
    const said = await journey('--moves', '2', ...credentials());
    expect(said).toContain('2 moves, 0 attempts cancelled');
  },
  160_000,
);

it('runs on where it was after cancels and dead destinations', async () => {
  const seed = testSeed('npm run demo:embed');
  const said = await journey('--moves', '4', '--chaos', '--seed', String(seed));
  // Both have happened, or nothing was tried.
  expect(said).toMatch(
    /moves, [1-9]\d* attempts cancelled, [1-9]\d* broken by a killed destination, no page lost or torn/,
  );
}, 160_000);
