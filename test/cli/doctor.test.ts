/** The checks of lib/doctor against machines that are only described. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { checkCgroupMemory } from '../../lib/doctor/cgroup.ts';
import { checkDevices } from '../../lib/doctor/devices.ts';
import {
  checkAvailableMemory,
  checkHugePages,
  checkLockedMemory,
  checkShmemHugePages,
} from '../../lib/doctor/memory.ts';
import { checkCrc, checkKernel, checkNode } from '../../lib/doctor/platform.ts';
import { checkAddon, checkIwarp, checkVerbs } from '../../lib/doctor/providers.ts';
import { checkQemu } from '../../lib/doctor/qemu.ts';
import type { System } from '../../lib/doctor/system.ts';
import type { NativeDevice, NativeProof } from '../../lib/native/devices.ts';

/** A machine with these files; a folder has what is below it. */
function machine(files: Readonly<Record<string, string>>, more: Partial<System> = {}): System {
  return {
    nodeVersion: 'v20.19.0',
    platform: 'linux',
    arch: 'x64',
    kernel: '6.1.0-28-amd64',
    path: [],
    read: (path) => files[path],
    list: (path) => {
      const below = Object.keys(files).filter((name) => name.startsWith(`${path}/`));
      return [...new Set(below.map((name) => name.slice(path.length + 1).split('/')[0] ?? ''))].sort();
    },
    ...more,
  };
}

const GIB = 2 ** 30;
const MEMINFO = 'MemTotal:       16777216 kB\nMemFree: 1 kB\nMemAvailable:    8388608 kB\n';

describe('platform', () => {
  it('wants a Node whose require() takes ES modules, on Linux, x86-64 or arm64', () => {
    const node = (nodeVersion: string) => checkNode(machine({}, { nodeVersion })).status;
    expect(['v20.19.0', 'v20.20.2', 'v22.12.0', 'v23.0.0'].map(node)).toEqual(Array(4).fill('ok'));
    expect(['v20.18.3', 'v21.7.0', 'v22.11.0'].map(node)).toEqual(Array(3).fill('missing'));
    expect(checkNode(machine({}, { nodeVersion: 'v24.0.1', arch: 'arm64' })).status).toBe('ok');
    expect(checkNode(machine({}, { nodeVersion: 'v20.9.0' }))).toMatchObject({
      status: 'missing',
      essential: true,
    });
    expect(checkNode(machine({}, { platform: 'darwin' })).status).toBe('missing');
    expect(checkNode(machine({}, { arch: 'riscv64' })).status).toBe('missing');
  });

  it('knows what kernels have by their version', () => {
    expect(checkKernel(machine({})).status).toBe('ok');
    expect(checkKernel(machine({}, { kernel: '5.10.0-1' })).status).toBe('warning');
  });

  it('finds CRC32C in hardware', () => {
    const cpu = (line: string, arch = 'x64') =>
      checkCrc(machine({ '/proc/cpuinfo': `processor : 0\n${line}\n` }, { arch })).status;
    expect(cpu('flags\t\t: fpu sse4_1 sse4_2 avx')).toBe('ok');
    expect(cpu('flags\t\t: fpu sse4_1')).toBe('warning');
    expect(cpu('Features\t: fp asimd crc32', 'arm64')).toBe('ok');
    expect(cpu('Features\t: fp asimd', 'arm64')).toBe('warning');
  });
});

describe('memory', () => {
  it('is what the kernel calls available', () => {
    expect(checkAvailableMemory(machine({ '/proc/meminfo': MEMINFO }))).toMatchObject({
      status: 'ok',
      found: '8.0 GiB available of 16.0 GiB',
    });
    const little = MEMINFO.replace('8388608', '400000');
    expect(checkAvailableMemory(machine({ '/proc/meminfo': little })).status).toBe('warning');
    expect(checkAvailableMemory(machine({})).status).toBe('warning');
  });

  it('to lock matters only where a device pins it', () => {
    const limits = (soft: string) =>
      `Limit  Soft Limit  Hard Limit  Units\nMax locked memory         ${soft}              8388608              bytes\n`;
    const device = { '/sys/class/infiniband/mlx5_0/ports/1/state': '4: ACTIVE\n' };
    expect(checkLockedMemory(machine({ '/proc/self/limits': limits('8388608') })).status).toBe('ok');
    const limited = machine({ '/proc/self/limits': limits('8388608'), ...device });
    expect(checkLockedMemory(limited)).toMatchObject({
      status: 'warning',
      remedy: expect.stringContaining('ulimit -l unlimited'),
    });
    const root = machine({
      '/proc/self/limits': limits('8388608'),
      '/proc/self/status': 'VmPin:\t     512 kB\nCapEff:\t000001ffffffffff\n',
      ...device,
    });
    expect(checkLockedMemory(root)).toMatchObject({
      found: expect.stringMatching(/8192 KiB.*siw.*CAP_IPC_LOCK/),
      details: { 'cap-ipc-lock': true, pinned: 524288n },
    });
    const unlimited = machine({ '/proc/self/limits': limits('unlimited'), ...device });
    expect(checkLockedMemory(unlimited).status).toBe('ok');
  });

  it('may be in huge pages', () => {
    const root = '/sys/kernel/mm/hugepages/hugepages-2048kB';
    const some = machine({ [`${root}/nr_hugepages`]: '8\n', [`${root}/free_hugepages`]: '3\n' });
    expect(checkHugePages(some).found).toBe('3 of 8 of 2048kB free');
    expect(checkHugePages(machine({})).status).toBe('ok');
    const shmem = (text: string) =>
      checkShmemHugePages(machine({ '/sys/kernel/mm/transparent_hugepage/shmem_enabled': text })).status;
    expect(shmem('always within_size [advise] never deny force')).toBe('ok');
    expect(shmem('always within_size advise [never] deny force')).toBe('warning');
  });
});

describe('cgroup memory', () => {
  const V2 = {
    '/proc/meminfo': MEMINFO,
    '/proc/self/cgroup': '0::/vms.slice/migrate.scope\n',
    '/proc/self/mountinfo': '24 1 0:22 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n',
    '/sys/fs/cgroup/cgroup.controllers': 'cpuset cpu io memory pids\n',
  };
  const own = '/sys/fs/cgroup/vms.slice/migrate.scope';
  const parent = '/sys/fs/cgroup/vms.slice';

  it('is ok without a limit anywhere up to the root', () => {
    const unlimited = { [`${own}/memory.max`]: 'max\n', [`${parent}/memory.max`]: 'max\n' };
    expect(checkCgroupMemory(machine({ ...V2, ...unlimited }))).toMatchObject({
      status: 'ok',
      details: { version: 'v2' },
    });
  });

  it('finds the limit with the least room, also at a parent', () => {
    const limits = {
      [`${own}/memory.max`]: `${6 * GIB}\n`,
      [`${own}/memory.current`]: `${1 * GIB}\n`,
      [`${parent}/memory.max`]: `${7 * GIB}\n`,
      [`${parent}/memory.current`]: `${5 * GIB}\n`,
    };
    expect(checkCgroupMemory(machine({ ...V2, ...limits }))).toMatchObject({
      status: 'warning',
      found: '5.0 GiB of 7.0 GiB used in /vms.slice: room for 2.0 GiB, less than the machine has',
      remedy: expect.stringContaining(`${parent}/memory.max`),
    });
  });

  it('takes memory.high for a limit, and one above what the machine has for none', () => {
    const high = { [`${own}/memory.high`]: `${GIB}\n`, [`${own}/memory.current`]: '0\n' };
    expect(checkCgroupMemory(machine({ ...V2, ...high }))).toMatchObject({ status: 'warning' });
    const far = { [`${own}/memory.max`]: `${12 * GIB}\n`, [`${own}/memory.current`]: '0\n' };
    expect(checkCgroupMemory(machine({ ...V2, ...far })).status).toBe('ok');
  });

  it('finds the own group where only a part of the tree is mounted', () => {
    const container = {
      ...V2,
      '/proc/self/cgroup': '0::/docker/1234/inner\n',
      '/proc/self/mountinfo': '24 1 0:22 /docker/1234 /sys/fs/cgroup ro - cgroup2 cgroup rw\n',
      '/sys/fs/cgroup/inner/memory.max': 'max\n',
      '/sys/fs/cgroup/memory.max': `${GIB}\n`,
      '/sys/fs/cgroup/memory.current': '0\n',
    };
    expect(checkCgroupMemory(machine(container))).toMatchObject({
      status: 'warning',
      details: { group: '/' },
    });
  });

  it('reads version 1 where the memory controller is there', () => {
    const v1 = (limit: string) =>
      checkCgroupMemory(
        machine({
          '/proc/meminfo': MEMINFO,
          '/proc/self/cgroup': '4:memory:/job\n0::/\n',
          '/proc/self/mountinfo':
            '35 31 0:32 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n',
          '/sys/fs/cgroup/unified/cgroup.controllers': '\n',
          '/sys/fs/cgroup/memory/job/memory.stat': `cache 1\nhierarchical_memory_limit ${limit}\n`,
          '/sys/fs/cgroup/memory/job/memory.usage_in_bytes': '1024\n',
        }),
      );
    expect(v1('9223372036854771712')).toMatchObject({ status: 'ok', details: { version: 'v1' } });
    expect(v1(String(GIB))).toMatchObject({ status: 'warning', details: { group: '/job' } });
  });

  it('is ok where there are no cgroups', () => {
    expect(checkCgroupMemory(machine({})).status).toBe('ok');
  });
});

describe('providers', () => {
  it('the addon is missing with the reason of the loader and the way to build it', () => {
    const cause = new Error('libfoo.so.1: cannot open shared object file\nRequire stack:\n- a');
    const failure = new Error('does not load', { cause });
    const there = import.meta.filename;
    const files = [
      { path: '/nowhere/a.node', kind: 'local build' },
      { path: there, kind: 'prebuilt' },
    ] as const;
    expect(checkAddon(failure, files)).toMatchObject({
      status: 'missing',
      essential: true,
      found: `${there} (prebuilt) does not load: libfoo.so.1: cannot open shared object file`,
      remedy: expect.stringContaining('npm run build:native'),
    });
    expect(checkAddon(undefined, files)).toMatchObject({
      status: 'ok',
      found: `loaded: ${there} (prebuilt)`,
      details: { 'looked-for': ['/nowhere/a.node (local build)', `${there} (prebuilt)`] },
    });
  });

  it('the addon is missing with every file that was looked for', () => {
    const files = [{ path: '/nowhere/a.node', kind: 'local build' }] as const;
    expect(checkAddon(new Error('not found'), files)).toMatchObject({
      status: 'missing',
      found: 'there is neither of /nowhere/a.node (local build)',
    });
  });

  it('iwarp needs the addon only, verbs its shared object and rdma-core', () => {
    expect([checkIwarp(true).status, checkIwarp(false).status]).toEqual(['ok', 'missing']);
    expect(checkVerbs(undefined)).toMatchObject({ status: 'missing', essential: false });
    expect(checkVerbs({ verbsProblem: () => null }).status).toBe('ok');
    const reason = 'librdmacm.so.1: cannot open shared object file';
    const remedy = 'apt-get install librdmacm1';
    expect(
      checkVerbs({ verbsProblem: () => ({ message: `${reason}; ${remedy}`, reason, remedy }) }),
    ).toMatchObject({
      status: 'missing',
      essential: false,
      found: expect.stringContaining(reason),
      remedy,
    });
  });
});

describe('RDMA devices', () => {
  const kernel = machine({ '/sys/class/infiniband/siw0/ports/1/state': '4: ACTIVE\n' });
  const working: NativeDevice = {
    name: 'siw0',
    transport: 'iWARP',
    firmware: '',
    problem: '',
    limits: { maxMrSize: 2n ** 64n - 1n, maxMr: 512, maxQp: 64, maxQpWr: 128, maxCqe: 4096, maxQpRdAtom: 16 },
    ports: [
      {
        number: 1,
        state: 'ACTIVE',
        linkLayer: 'Ethernet',
        activeMtu: 1024,
        gids: [{ index: 0, gid: 'fe80::1', type: 'RoCE v2', netdev: 'eth0' }],
      },
    ],
    addresses: ['192.0.2.7'],
  };
  const proof: NativeProof = {
    ok: true,
    address: '192.0.2.7',
    bytes: 1048576n,
    milliseconds: 12.4,
    message: 'it arrived whole',
  };
  const look = (found: readonly NativeDevice[], said = proof) =>
    checkDevices(kernel, { listDevices: async () => [...found], proveDevice: async () => said });

  it('show ports, GIDs, limits and the WRITE that proved them', async () => {
    const [all, device] = await look([working]);
    expect(all).toMatchObject({ name: 'rdma-devices', status: 'ok', found: 'siw0' });
    expect(device).toMatchObject({
      name: 'rdma-device',
      status: 'ok',
      found: 'iWARP, 192.0.2.7; it arrived whole (12 ms, connecting included)',
      notes: [
        'port 1: ACTIVE, Ethernet, MTU 1024; GIDs: [0] fe80::1 RoCE v2 eth0',
        expect.stringMatching(
          /^limits: registration no limit, 512 registrations, 64 queue pairs, 128 requests/,
        ),
      ],
      details: { device: 'siw0', 'max-mr-size': 2n ** 64n - 1n, 'proof-ok': true, 'proof-bytes': 1048576n },
    });
  });

  it('that do not work say why, and what to do', async () => {
    const down = working.ports.map((port) => ({ ...port, state: 'DOWN' }));
    const failed = { ...proof, ok: false, message: 'the WRITE did not come in time' };
    const found = [
      (await look([{ ...working, problem: 'cannot be opened: Permission denied' }]))[1],
      (await look([{ ...working, ports: down }]))[1],
      (await look([{ ...working, addresses: [] }]))[1],
      (await look([working], failed))[1],
    ];
    expect(found.map((check) => check?.status)).toEqual(Array(4).fill('warning'));
    expect(found.map((check) => `${check?.found} | ${check?.remedy}`)).toEqual([
      expect.stringMatching(/Permission denied \| .*uverbs/),
      expect.stringMatching(/no port is ACTIVE \| .*ip link set eth0 up/),
      expect.stringMatching(/no address.* \| ip address add .* dev eth0/),
      expect.stringMatching(/the WRITE did not come in time \| .*dmesg/),
    ]);
  });

  it('that only the kernel sees are named', async () => {
    expect(await checkDevices(machine({}), undefined)).toMatchObject([
      { status: 'ok', found: expect.stringMatching(/^none/) },
    ]);
    expect(await checkDevices(kernel, undefined)).toMatchObject([
      { status: 'warning', details: { devices: ['siw0'] } },
    ]);
    expect(await look([])).toMatchObject([
      { status: 'warning', remedy: expect.stringContaining('ibverbs-providers') },
    ]);
    const refusing = { listDevices: () => Promise.reject(new Error('no')), proveDevice: async () => proof };
    expect(await checkDevices(kernel, refusing)).toMatchObject([{ status: 'warning', found: 'siw0: no' }]);
  });
});

describe('QEMU', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-doctor-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  const DEVICE = { '/sys/class/infiniband/siw0/node_type': '4: RNIC' };

  async function found(script: string, files = {}): Promise<Awaited<ReturnType<typeof checkQemu>>> {
    const path = join(folder, 'qemu-system-x86_64');
    await writeFile(path, script);
    await chmod(path, 0o755);
    return checkQemu(machine(files, { path: ['/nowhere', folder] }));
  }

  it('is told with its version and whether it is linked to librdmacm', async () => {
    const says = '#!/bin/sh\necho "QEMU emulator version 9.9.9 (Test)"\n';
    expect(await found(says)).toMatchObject({
      status: 'warning',
      details: { version: '9.9.9 (Test)', rdma: false, usable: false },
      remedy: expect.stringContaining('rdma-migrate qemu move'),
    });
    // The name lies across two pieces of the file as it is read.
    const padding = '#'.repeat(2 ** 20 - says.length - 5);
    const linked = `${says}exit\n${padding}librdmacm.so.1`;
    expect(await found(linked, DEVICE)).toMatchObject({
      status: 'ok',
      details: { rdma: true, usable: true },
    });
  });

  it('has no use for its rdma: without an RDMA device', async () => {
    const says = '#!/bin/sh\necho "QEMU emulator version 9.9.9 (Test)"\nexit\n# librdmacm.so.1';
    expect(await found(says)).toMatchObject({
      status: 'warning',
      found: expect.stringContaining('could not create rdma event channel'),
      remedy: expect.stringMatching(/RDMA device .*rdma-migrate qemu move.*rdma-migrate tunnel/),
      details: { rdma: true, usable: false },
    });
  });

  it('may be missing or not run', async () => {
    expect(await checkQemu(machine({}))).toMatchObject({
      status: 'missing',
      remedy: 'apt-get install qemu-system-x86',
    });
    expect(await checkQemu(machine({}, { arch: 'arm64' }))).toMatchObject({
      remedy: 'apt-get install qemu-system-arm',
    });
    expect((await found('#!/bin/sh\nexit 1\n')).status).toBe('warning');
  });
});
