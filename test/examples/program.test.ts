/** Programs that move with their connections, in processes of their own. */
import { execFile } from 'node:child_process';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { beforeAll, expect, it } from 'vitest';

const run = promisify(execFile);
const ROOT = fileURLToPath(new URL('../../', import.meta.url));
const MAIN = 'build/node/examples/moving-program/main.js';

beforeAll(async () => {
  await run('npx', ['tsc', '-p', 'tsconfig.examples.json'], { cwd: ROOT, timeout: 120_000 });
}, 120_000);

const program = async (...options: string[]): Promise<string> =>
  (await run(process.execPath, [MAIN, ...options], { cwd: ROOT, timeout: 100_000 })).stdout;

it('a two-way run of 100,000 messages ends normally through two moves onto the host of its partner', async () => {
  const said = await program(
    ...['--from', 'both', '--iterations', '100000', '--queue-pairs', '1', '--onto-partner', '--every', '100'],
  );
  expect(said).toMatch(
    /100000 messages done, 100000 received; partner: 100000 done, 100000 received; 2 moves/,
  );
  expect(said).toContain('VERIFIED');
}, 110_000);

it.each([
  ['write', 'program', 'ahead', 'hash'],
  ['write', 'partner', 'no-ahead', 'write-protect'],
  ['read', 'both', 'ahead', 'write-protect'],
])(
  '%s from %s moves, %s, with %s',
  async (verb, from, way, tracker) => {
    const folder = await mkdtemp(join(tmpdir(), 'moving-program-'));
    try {
      const svg = join(folder, 'timeline.svg');
      const said = await program(
        ...['--verb', verb, '--from', from, '--seconds', '4', '--moves', '1', '--tracker', tracker],
        ...['--json', '--svg', svg, ...(way === 'no-ahead' ? ['--no-ahead'] : [])],
      );
      const report = JSON.parse(said) as Record<'program' | 'partner', { done: number; faults: number }> & {
        moves: unknown[];
        timeline: unknown[];
      };
      expect(report.moves).toHaveLength(1);
      expect(report.program.faults + report.partner.faults).toBe(0);
      expect(report.program.done + report.partner.done).toBeGreaterThan(1000);
      expect(report.timeline.length).toBeGreaterThan(10);
      expect(await readFile(svg, 'utf8')).toContain('<svg');
    } finally {
      await rm(folder, { recursive: true });
    }
  },
  110_000,
);

it('says what is wrong with an option', async () => {
  await expect(program('--size', '10')).rejects.toMatchObject({
    code: 2,
    stderr: expect.stringContaining('error: --size is a whole number from 64'),
  });
  expect(await program('--help')).toContain('--onto-partner');
});
