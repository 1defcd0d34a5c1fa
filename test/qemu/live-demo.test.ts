/** `npm run demo:live` as users run it. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseOptions } from '../../examples/qemu-live/options.ts';
import { randomNumbers } from '../../examples/qemu-live/random.ts';
import { describeWithQemu, MIB } from '../support/qemu-test.ts';

const RUN = fileURLToPath(new URL('../../examples/qemu-live/run.mjs', import.meta.url));
const TIMEOUT_MS = 180_000;

interface Ended {
  readonly code: number | null;
  readonly output: string;
  readonly left: readonly string[];
}

/** `interruptAt`: it gets one SIGTERM when it has printed that. `left`: what names this run and is there at its end. */
async function demo(args: readonly string[], interruptAt?: string): Promise<Ended> {
  const before = new Set(await traces());
  const child = spawn(process.execPath, [RUN, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: TIMEOUT_MS,
  });
  let output = '';
  let interrupted = interruptAt === undefined;
  child.stdout.setEncoding('utf8').on('data', (part: string) => {
    output += part;
    if (interrupted || !output.includes(interruptAt ?? '')) return;
    interrupted = true;
    child.kill('SIGTERM');
  });
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, output, left: (await traces()).filter((trace) => !before.has(trace)) };
}

/** Files of demos in shared memory, and processes that know them. */
async function traces(): Promise<string[]> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const lines = await Promise.all(
    pids.map((pid) => readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')),
  );
  const names = [...(await readdir('/dev/shm').catch(() => [])), ...lines];
  return names.filter(
    (name) => name.includes('rdma-migrate-demo-') || name.includes('qemu-live/destination'),
  );
}

describeWithQemu('npm run demo:live', { ramBytes: 64 * MIB }, () => {
  it(
    'moves a running guest back and forth, undisturbed or not, and verifies it each time',
    async () => {
      const args = ['--ram', '64M', '--working-set', '4M', '--downtime-limit', '2000', '--repeat', '6'];
      const { code, output, left } = await demo([...args, '--chaos', '--seed', '11']);
      expect(output).toContain('VERIFIED');
      expect(output).toContain('[kill');
      expect(code).toBe(0);
      expect(left).toEqual([]);
    },
    TIMEOUT_MS,
  );

  it(
    'leaves nothing behind when it is interrupted while it migrates',
    async () => {
      const { code, output, left } = await demo(['--ram', '64M', '--repeat', '50'], '1. moved');
      expect(output).toContain('CANCELLED: interrupted by SIGTERM');
      expect(code).toBe(143);
      expect(left).toEqual([]);
    },
    TIMEOUT_MS,
  );
});

describe('the options of npm run demo:live', () => {
  it('have defaults', () => {
    expect(parseOptions([])).toMatchObject({
      ramBytes: 128 * MIB,
      regionBytes: 32 * MIB,
      tracker: 'hash',
      repeat: 1,
    });
  });

  it.for([
    ['--ram', '8M'],
    ['--ram', '32M', '--working-set', '31M'],
    ['--tracker', 'magic'],
    ['--repeat', '0'],
    ['--downtime-limit', '1.5'],
    ['--nothing'],
  ])('refuse %s', (args) => {
    expect(() => parseOptions(args)).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
  });

  it('name the same moments for the same seed', () => {
    const [one, same, other] = [randomNumbers(7), randomNumbers(7), randomNumbers(8)];
    const numbers = [one(), one(), one()];
    expect([same(), same(), same()]).toEqual(numbers);
    expect([other(), other(), other()]).not.toEqual(numbers);
    expect(numbers.every((number) => number >= 0 && number < 1)).toBe(true);
  });
});
