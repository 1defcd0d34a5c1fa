/** The demo as users run it, and what it does when a migration fails. */
import { readdir } from 'node:fs/promises';
import { PassThrough } from 'node:stream';
import { text } from 'node:stream/consumers';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { DemoContext } from '../../examples/demo/context.ts';
import { Narrator } from '../../examples/demo/narrator.ts';
import { parseOptions } from '../../examples/demo/options.ts';
import { migrateRealVm } from '../../examples/demo/real-vm.ts';
import type { DestinationProcess } from '../../examples/destination/process.ts';
import { qemuMissing } from '../../examples/qemu/qemu.ts';
import { MigrationError } from '../../lib/index.ts';
import { DEMO_TIMEOUT_MS, type Ended, runDemo, traces } from '../support/demo-run.ts';
import { temporaryFolder } from '../support/temp.ts';

const RUN = fileURLToPath(new URL('../../examples/demo/run.mjs', import.meta.url));
const MIB = 2 ** 20;

/** Its files are in a folder of the test's. */
const demo = (folder: string, args: readonly string[], interruptAt?: string): Promise<Ended> =>
  runDemo(RUN, args, { env: { TMPDIR: folder }, ...(interruptAt !== undefined && { interruptAt }) });

/** What names files of this run. */
const leftovers = (output: string): Promise<string[]> =>
  traces(/\S*\/(rdma-migrate-demo-\w+)\//.exec(output)?.[1] ?? 'no folder was printed');

/** Where QEMU is missing the reason is printed and part of the report. */
function withQemu(title: string, test: () => Promise<void>): void {
  const missing = qemuMissing();
  if (missing === undefined) {
    it(title, test, DEMO_TIMEOUT_MS);
  } else {
    console.warn(`NOT RUN: ${title}: ${missing}`);
    it.skip(`${title} (not run: ${missing})`, test);
  }
}

describe('the demo', () => {
  withQemu('migrates a real VM, which continues where it stopped', async () => {
    await using folder = await temporaryFolder();
    const { code, output } = await demo(folder.path, ['--ram', '32M']);
    expect(output).toMatch(/CRC off/);
    expect(output).toMatch(/outcome: committed/);
    expect(output).toMatch(/32\.0 MiB of RAM are equal byte by byte/);
    const steps =
      /VERIFIED in .* went on from step (\d+) to (\d+)\./.exec(output)?.slice(1).map(BigInt) ?? [];
    expect(steps).toHaveLength(2);
    expect(steps[1]).toBeGreaterThan(steps[0] as bigint);
    expect(code).toBe(0);
    expect(await leftovers(output)).toEqual([]);
    expect(await readdir(folder.path)).toEqual([]);
  });

  withQemu('takes pin-all and CRC', async () => {
    await using folder = await temporaryFolder();
    const { code, output } = await demo(folder.path, ['--ram', '32M', '--pin-all', '--crc']);
    expect(output).toMatch(/pin-all, CRC on/);
    expect(output).toMatch(/^VERIFIED /m);
    expect(code).toBe(0);
  });

  withQemu('ends everything when it is interrupted', async () => {
    await using folder = await temporaryFolder();
    const { code, output } = await demo(folder.path, ['--ram', '256M'], 'Migrate:');
    expect(output).toMatch(/^CANCELLED: interrupted by SIGTERM/m);
    expect(code).toBe(143);
    expect(await leftovers(output)).toEqual([]);
  });

  it('migrates a synthetic VM where there is no real one', async () => {
    await using folder = await temporaryFolder();
    const { code, output } = await demo(folder.path, ['--synthetic', '--ram', '64M']);
    expect(output).toMatch(/^A synthetic VM is migrated instead of a real one: /m);
    expect(output).toMatch(/^VERIFIED in .*: 64\.0 MiB of RAM went from process \d+ to process \d+/m);
    expect(code).toBe(0);
  }, 120_000);
});

/** A destination where nothing listens any more. */
const gone: DestinationProcess = {
  uri: 'rdma:127.0.0.1:1',
  pid: 0,
  arrived: Promise.reject(new Error('the destination: it is gone')),
  kill: () => {},
  [Symbol.asyncDispose]: async () => {},
};
gone.arrived.catch(() => undefined);

describe('a demo whose migration fails', () => {
  withQemu('lets the VM go on in the first QEMU, and says so', async () => {
    await using folder = await temporaryFolder();
    const output = new PassThrough();
    const printed = text(output);
    const context: DemoContext = {
      options: { pinAll: false, crc: false },
      ramBytes: 32 * MIB,
      narrator: new Narrator(output),
      workspace: { ...folder, at: (name) => `${folder.path}/${name}` },
      signal: new AbortController().signal,
      startReceiver: async () => gone,
    };
    const failure: unknown = await migrateRealVm(context).catch((error: unknown) => error);
    output.end();
    expect(failure).toBeInstanceOf(MigrationError);
    expect(failure).toMatchObject({ code: 'CONNECTION_REFUSED', phase: 'connect' });
    expect(await printed).toMatch(/the first QEMU is running and its guest goes on after step \d+/);
    expect(await printed).toMatch(/the destination: it is gone/);
  });
});

describe('the options of the demo', () => {
  it('are a size, pin-all and crc', () => {
    const defaults = { ramBytes: undefined, pinAll: false, crc: false, synthetic: false, help: false };
    expect(parseOptions([])).toEqual(defaults);
    expect(parseOptions(['--ram', '2G', '--pin-all', '--crc'])).toEqual({
      ...defaults,
      ramBytes: 2048 * MIB,
      pinAll: true,
      crc: true,
    });
  });

  it.each([
    [['--ram', '1M']],
    [['--ram', '256']],
    [['--ram', '-1G']],
    [['--ram', '9999999G']],
    [['--fast']],
    [['extra']],
  ])('refuses %j and shows the usage', (args) => {
    expect(() => parseOptions(args)).toThrow(/npm run demo -- \[options\]/);
  });
});
