import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type Lockable, lockable } from '../../lib/migration/pins/lockable.ts';
import {
  agreedBudget,
  CONTROL_BUFFER_BYTES,
  checkRamFits,
  pinPolicy,
  planDestinationPins,
  planPins,
  stagingBytes,
} from '../../lib/migration/pins/pinning.ts';

const MIB = 1n << 20n;
const GIB = 1n << 30n;
const limit = (room: bigint, pinned = 0n): Lockable => ({
  room,
  pinned,
  limit: room + pinned,
  source: 'RLIMIT_MEMLOCK',
});
const facts = (room?: bigint) => ({
  ramBytes: GIB,
  granule: MIB,
  lockable: room === undefined ? undefined : limit(room),
  reserve: CONTROL_BUFFER_BYTES,
});
const overLimit = (needed: bigint, most: bigint) =>
  expect.objectContaining({
    code: 'LOCKED_MEMORY_LIMIT',
    details: expect.objectContaining({ needed, limit: most }),
    message: expect.stringMatching(new RegExp(`(?=.*${needed})(?=.*${most})`)),
  });

describe('planPins', () => {
  it('does what was asked for where nothing is pinned, or it fits', () => {
    for (const room of [undefined, GIB + CONTROL_BUFFER_BYTES]) {
      expect(planPins(pinPolicy({ pinAll: true }), facts(room))).toEqual({ pinAll: true, budget: undefined });
      expect(planPins(pinPolicy({}), facts(room))).toEqual({ pinAll: false, budget: undefined });
    }
    const small = pinPolicy({ pinBudget: 60n * MIB });
    expect(planPins(small, facts(64n * MIB))).toEqual({ pinAll: false, budget: 60n * MIB });
  });

  it('lowers itself to what fits beside the control buffers, with the numbers', () => {
    for (const options of [{}, { pinAll: true }, { pinBudget: 512n * MIB }]) {
      const plan = planPins(pinPolicy(options), facts(64n * MIB + 5n));
      expect(plan).toMatchObject({ pinAll: false, budget: 60n * MIB });
      expect(plan.notice).toContain(String(64n * MIB + 5n));
    }
  });

  it('fails before it starts when that was asked for', () => {
    const policy = pinPolicy({ pinAll: true, onPinLimit: 'fail' });
    expect(() => planPins(policy, facts(64n * MIB))).toThrow(
      overLimit(GIB + CONTROL_BUFFER_BYTES, 64n * MIB),
    );
  });

  it('fails when not even two spans fit', () => {
    const needed = CONTROL_BUFFER_BYTES + 2n * MIB;
    expect(planPins(pinPolicy({}), facts(needed))).toMatchObject({ budget: 2n * MIB });
    expect(() => planPins(pinPolicy({}), facts(needed - 1n))).toThrow(overLimit(needed, needed - 1n));
    expect(() => planPins(pinPolicy({}), facts(0n))).toThrow(overLimit(needed, 0n));
    const tiny = { ...facts(CONTROL_BUFFER_BYTES), ramBytes: MIB };
    expect(() => planPins(pinPolicy({}), tiny)).toThrow(
      overLimit(CONTROL_BUFFER_BYTES + MIB, CONTROL_BUFFER_BYTES),
    );
    const huge = { ...facts(), granule: GIB };
    expect(() => planPins(pinPolicy({ pinBudget: GIB }), huge)).toThrow(overLimit(2n * GIB, GIB));
  });

  it('never plans more than the limit leaves, nor more than was asked for', () => {
    fc.assert(
      fc.property(
        fc.bigInt(0n, 4n * GIB),
        fc.option(fc.bigInt(2n * MIB, 2n * GIB), { nil: undefined }),
        fc.bigInt(1n, 3n * GIB),
        (room, pinBudget, ramBytes) => {
          const policy = pinPolicy(pinBudget === undefined ? {} : { pinBudget });
          try {
            const plan = planPins(policy, { ...facts(room), ramBytes });
            const most = plan.budget !== undefined && plan.budget < ramBytes ? plan.budget : ramBytes;
            expect(most + CONTROL_BUFFER_BYTES).toBeLessThanOrEqual(room);
            if (pinBudget !== undefined) expect(plan.budget).toBeLessThanOrEqual(pinBudget);
          } catch (error) {
            expect(error).toMatchObject({ code: 'LOCKED_MEMORY_LIMIT' });
            expect(room).toBeLessThan(6n * MIB);
          }
        },
      ),
    );
  });
});

describe('agreedBudget', () => {
  it('is the smaller one', () => {
    expect(agreedBudget(undefined, undefined, MIB)).toBeUndefined();
    expect(agreedBudget(8n * MIB, undefined, MIB)).toBe(8n * MIB);
    expect(agreedBudget(undefined, 8n * MIB, MIB)).toBe(8n * MIB);
    expect(agreedBudget(8n * MIB, 9n * MIB, MIB)).toBe(8n * MIB);
    expect(agreedBudget(9n * MIB, 8n * MIB, MIB)).toBe(8n * MIB);
  });

  it.each([0n, MIB, 2n * MIB - 1n])('refuses a peer that leaves %i bytes', (peers) => {
    expect(() => agreedBudget(undefined, peers, MIB)).toThrow(overLimit(2n * MIB, peers));
  });
});

describe('planDestinationPins', () => {
  const plan = (options: Parameters<typeof pinPolicy>[0], room?: bigint) =>
    planDestinationPins(pinPolicy(options), facts(room));

  it('offers its budget, and no pin-all beside it', () => {
    expect(plan({})).toMatchObject({ pinAll: true, offered: undefined, enforced: undefined });
    expect(plan({ pinBudget: 8n * MIB })).toMatchObject({
      pinAll: false,
      offered: 8n * MIB,
      enforced: 8n * MIB,
    });
  });

  it('without one offers what the limit leaves, and pin-all to what fits', () => {
    expect(plan({}, 64n * MIB)).toMatchObject({ pinAll: true, pinAllLimit: 60n * MIB, offered: 60n * MIB });
    expect(plan({ onPinLimit: 'fail' }, 64n * MIB)).toMatchObject({
      pinAllLimit: 60n * MIB,
      offered: undefined,
    });
  });

  it('lowers a budget that does not fit, or fails, as was asked for', () => {
    expect(plan({ pinBudget: GIB }, 64n * MIB)).toMatchObject({ offered: 60n * MIB, enforced: 60n * MIB });
    expect(() => plan({ pinBudget: GIB, onPinLimit: 'fail' }, 64n * MIB)).toThrow(
      overLimit(GIB + CONTROL_BUFFER_BYTES, 64n * MIB),
    );
    expect(() => plan({}, 5n * MIB)).toThrow(overLimit(6n * MIB, 5n * MIB));
  });
});

it('checkRamFits tells what is needed and what there is', () => {
  expect(() => checkRamFits(GIB, undefined)).not.toThrow();
  expect(() => checkRamFits(GIB, limit(GIB))).not.toThrow();
  expect(() => checkRamFits(GIB, limit(64n * MIB, MIB))).toThrow(overLimit(GIB, 65n * MIB));
});

describe('lockable', () => {
  const proc = (files: Record<string, string>) => (path: string) => files[path];
  const status = (pin: number, capabilities: string) =>
    `VmLck:\t 7 kB\nVmPin:\t ${pin} kB\nCapEff:\t${capabilities}\n`;
  const limits = (soft: string) =>
    `Limit Soft Limit Hard Limit Units\nMax locked memory         ${soft}              8388608              bytes\n`;
  const host = {
    '/proc/self/status': status(1024, '0000000000000000'),
    '/proc/self/limits': limits('8388608'),
    '/proc/meminfo': 'MemTotal:  2097152 kB\n',
  };

  it('is RLIMIT_MEMLOCK less what is pinned already', () => {
    expect(lockable(proc(host))).toEqual({
      room: 7n * MIB,
      limit: 8n * MIB,
      pinned: MIB,
      source: 'RLIMIT_MEMLOCK',
    });
  });

  it('is lifted by CAP_IPC_LOCK, up to the RAM', () => {
    const files = { ...host, '/proc/self/status': status(0, '0000000000004000') };
    expect(lockable(proc(files))).toMatchObject({ room: 2n * GIB, source: 'RAM' });
    expect(lockable(proc({ ...host, '/proc/self/limits': limits('unlimited') }))).toMatchObject({
      source: 'RAM',
    });
  });

  const mounted = (root: string) => ({
    ...host,
    '/proc/self/limits': limits('unlimited'),
    '/proc/self/mountinfo': `24 1 0:22 ${root} /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n`,
    '/sys/fs/cgroup/cgroup.controllers': 'cpu memory pids\n',
  });

  it('is the tightest memory.max from the own cgroup upwards', () => {
    const files = {
      ...mounted('/'),
      '/proc/self/cgroup': '0::/a/b/c\n',
      '/sys/fs/cgroup/a/b/c/memory.max': 'max\n',
      '/sys/fs/cgroup/a/b/c/memory.high': `${MIB}\n`,
      '/sys/fs/cgroup/a/b/memory.max': `${512n * MIB}\n`,
      '/sys/fs/cgroup/a/memory.max': `${GIB}\n`,
    };
    expect(lockable(proc(files))).toMatchObject({
      room: 511n * MIB,
      limit: 512n * MIB,
      source: '/sys/fs/cgroup/a/b/memory.max',
    });
  });

  it.each([
    ['with a cgroup namespace', '/', '0::/\n'],
    ['below the root of a cgroup namespace', '/', '0::/a/b\n'],
    ['that sees its own part of the tree', '/docker/1234', '0::/docker/1234/a\n'],
  ])('is the memory.max of a container %s', (_what, root, cgroup) => {
    const files = {
      ...mounted(root),
      '/proc/self/cgroup': cgroup,
      '/sys/fs/cgroup/a/memory.max': 'max\n',
      '/sys/fs/cgroup/memory.max': `${256n * MIB}\n`,
    };
    expect(lockable(proc(files))).toMatchObject({
      limit: 256n * MIB,
      source: '/sys/fs/cgroup/memory.max',
    });
  });

  it('is the limit of a cgroup of version 1', () => {
    const files = (limit: string) => ({
      ...host,
      '/proc/self/limits': limits('unlimited'),
      '/proc/self/cgroup': '4:memory:/job\n0::/\n',
      '/proc/self/mountinfo': '35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n',
      '/sys/fs/cgroup/memory/job/memory.stat': `cache 1\nhierarchical_memory_limit ${limit}\n`,
    });
    expect(lockable(proc(files(String(GIB))))).toMatchObject({
      limit: GIB,
      source: '/sys/fs/cgroup/memory/job/memory.limit_in_bytes',
    });
    expect(lockable(proc(files('9223372036854771712')))).toMatchObject({ source: 'RAM' });
  });

  it('leaves no room where more is pinned than the limit', () => {
    expect(lockable(proc({ ...host, '/proc/self/status': status(9000, '0') }))).toMatchObject({ room: 0n });
  });

  it('is not known where /proc tells nothing', () => {
    expect(lockable(() => undefined)).toBeUndefined();
  });
});

it('reserves what the channels take for copies: each half of 16 MiB at least', () => {
  expect([1, 2, 3, 16].map(stagingBytes)).toEqual([16n * MIB, 16n * MIB, 24n * MIB, 128n * MIB]);
});
