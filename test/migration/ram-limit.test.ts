import { describe, expect, it } from 'vitest';
import { DeclaredRam, machineLimit } from '../../lib/migration/destination/ram-limit.ts';
import type { ReadText } from '../../lib/ram/proc.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';
import { SMALL_BLOCKS } from '../support/small-vm.ts';

const GIB = 1n << 30n;
const MEMINFO = [
  'MemTotal:       16777216 kB',
  'MemAvailable:    8388608 kB',
  'SwapTotal:       2097152 kB',
  'SwapFree:        1048576 kB',
  'HugePages_Free:      512',
  'Hugepagesize:       2048 kB',
].join('\n');

const machine =
  (files: Readonly<Record<string, string>>): ReadText =>
  (path) =>
    files[path];
const plain = machine({ '/proc/meminfo': MEMINFO });
const inGroup = machine({
  '/proc/meminfo': MEMINFO.replace(/HugePages_Free.*/, 'HugePages_Free: 0'),
  '/proc/self/cgroup': '0::/vms\n',
  '/proc/self/mountinfo': '30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n',
  '/sys/fs/cgroup/cgroup.controllers': 'cpu memory\n',
  '/sys/fs/cgroup/vms/memory.max': `${4n * GIB}\n`,
  '/sys/fs/cgroup/vms/memory.current': `${3n * GIB}\n`,
  '/sys/fs/cgroup/vms/memory.high': 'max\n',
});

const checkDeclaredRam = (
  ramBytes: bigint,
  ...rest: [{ maxRam: bigint | undefined; fresh: boolean }, ReadText?]
) => new DeclaredRam().take({}, ramBytes, ...rest);

describe('the RAM that may be declared', () => {
  it('is what is available, with swap and huge pages, where it is made now', () => {
    expect(machineLimit(true, plain)).toEqual({ limit: 10n * GIB, source: 'available memory and swap' });
  });

  it('is all that the machine has where it may be there already', () => {
    expect(machineLimit(false, plain)).toEqual({ limit: 18n * GIB, source: 'memory and swap' });
  });

  it('is no more than the cgroup allows', () => {
    const file = '/sys/fs/cgroup/vms/memory.max';
    expect(machineLimit(true, inGroup)).toEqual({ limit: 4n * GIB, source: file });
    expect(machineLimit(false, inGroup)).toEqual({ limit: 4n * GIB, source: file });
  });

  it('is not limited where nothing is known', () => {
    expect(machineLimit(true, () => undefined)).toBeUndefined();
    expect(() =>
      checkDeclaredRam(1n << 60n, { maxRam: undefined, fresh: true }, () => undefined),
    ).not.toThrow();
  });

  it('is shared by all that are under way, and comes back when one has ended', () => {
    const declared = new DeclaredRam();
    const settings = { maxRam: 3n * GIB, fresh: true };
    const [one, two, three] = [{}, {}, {}];
    declared.take(one, GIB, settings);
    declared.take(two, 2n * GIB, settings);
    const details = { needed: GIB, limit: 3n * GIB, source: 'maxRam', underWay: 3n * GIB };
    expect(() => declared.take(three, GIB, settings)).toThrow(
      expect.objectContaining({ code: 'OUT_OF_MEMORY', details }),
    );
    declared.giveBack(one);
    expect(() => declared.take(three, GIB, settings)).not.toThrow();
  });

  it('is refused with both figures and the option, from the first byte that is too much', () => {
    const settings = { maxRam: undefined, fresh: true };
    expect(() => checkDeclaredRam(10n * GIB, settings, plain)).not.toThrow();
    expect(() => checkDeclaredRam(10n * GIB + 4096n, settings, plain)).toThrow(
      expect.objectContaining({
        code: 'OUT_OF_MEMORY',
        phase: 'setup',
        message: expect.stringMatching(`${10n * GIB + 4096n} bytes.* ${10n * GIB} .*--max-ram`),
        details: { needed: 10n * GIB + 4096n, limit: 10n * GIB, source: 'available memory and swap' },
      }),
    );
  });

  it('is what the operator allows instead, more or less', () => {
    expect(() => checkDeclaredRam(1n << 46n, { maxRam: 1n << 46n, fresh: true }, plain)).not.toThrow();
    expect(() => checkDeclaredRam(GIB + 1n, { maxRam: GIB, fresh: true }, plain)).toThrow(
      expect.objectContaining({ details: { needed: GIB + 1n, limit: GIB, source: 'maxRam' } }),
    );
  });
});

describe('a destination that allows little RAM', () => {
  const ramBytes = SMALL_BLOCKS.reduce((sum, { length }) => sum + length, 0n);

  it('refuses a VM with more before its target is asked for any', async () => {
    await using received = await receiving({ maxRam: ramBytes - 1n });
    await using source = await ScriptedSource.connect(received.port);
    await source.reach('ram').catch(() => undefined);
    const error = await received.fails('OUT_OF_MEMORY', 'setup');
    expect(error.details).toMatchObject({ needed: ramBytes, limit: ramBytes - 1n });
    expect(received.calls).not.toContain('allocate');
  });

  it('takes a VM that has just as much', async () => {
    await using received = await receiving({ maxRam: ramBytes });
    await using source = await ScriptedSource.connect(received.port);
    await source.reach('ram');
    expect(received.calls).toContain('allocate');
  });
});
