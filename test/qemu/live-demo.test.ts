/** `npm run demo:live` as users run it. */
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { parseOptions } from '../../examples/qemu-live/options.ts';
import { randomNumbers } from '../../examples/qemu-live/random.ts';
import { DEMO_TIMEOUT_MS, type Ended, runDemo, traces } from '../support/demo-run.ts';
import { describeWithQemu, MIB } from '../support/qemu-test.ts';
import { testSeed } from '../support/seed.ts';

const RUN = fileURLToPath(new URL('../../examples/qemu-live/run.mjs', import.meta.url));

/** `left`: what names this run and is there at its end. */
async function demo(
  args: readonly string[],
  interruptAt?: string,
): Promise<Ended & { left: readonly string[] }> {
  const found = () => traces('rdma-migrate-demo-');
  const before = new Set(await found());
  const ended = await runDemo(RUN, args, interruptAt === undefined ? {} : { interruptAt });
  return { ...ended, left: (await found()).filter((trace) => !before.has(trace)) };
}

describeWithQemu('npm run demo:live', { ramBytes: 64 * MIB }, () => {
  it(
    'moves a running guest back and forth, undisturbed or not, and verifies it each time',
    async () => {
      const args = ['--ram', '64M', '--working-set', '4M', '--downtime-limit', '2000', '--repeat', '6'];
      const seed = String(testSeed('npm run demo:live'));
      const { code, output, left } = await demo([...args, '--chaos', '--seed', seed]);
      expect(output).toContain('VERIFIED');
      // Both have ended a migration, or nothing was tried.
      expect(output).toMatch(/disturbances in time: [1-9]\d* cancel, [1-9]\d* kill/);
      expect(code).toBe(0);
      expect(left).toEqual([]);
    },
    DEMO_TIMEOUT_MS,
  );

  it(
    'leaves nothing when it is interrupted while it migrates',
    async () => {
      const { code, output, left } = await demo(['--ram', '64M', '--repeat', '50'], '1. moved');
      expect(output).toContain('CANCELLED: interrupted by SIGTERM');
      expect(code).toBe(143);
      expect(left).toEqual([]);
    },
    DEMO_TIMEOUT_MS,
  );
});

describe('the options of npm run demo:live', () => {
  it('have defaults', () => {
    expect(parseOptions([])).toMatchObject({
      ramBytes: 128 * MIB,
      regionBytes: 32 * MIB,
      machine: 'pc',
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
