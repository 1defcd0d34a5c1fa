import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';
import type { NativeDevices, NativeReach } from '../../lib/native/devices.ts';
import { chooseProvider } from '../../lib/transport/provider.ts';

const ENDPOINT = { host: '192.0.2.7', port: 4444 };
const PROBLEM = {
  message: 'not available: no librdmacm; install it',
  reason: 'no librdmacm',
  remedy: 'install it',
};

function machine(reach: NativeReach | Error, problem: typeof PROBLEM | null = null): NativeDevices {
  return {
    verbsProblem: () => problem,
    setBuildCommand: () => {},
    listDevices: async () => [],
    findDevice: async () => {
      if (reach instanceof Error) throw reach;
      return reach;
    },
    proveDevice: () => Promise.reject(new Error('not asked for')),
  };
}

const led: NativeReach = {
  reachable: true,
  device: 'mlx5_0',
  port: 1,
  reason: 'RDMA device mlx5_0 leads to it',
};
const lost: NativeReach = { reachable: false, device: '', port: 0, reason: 'no RDMA device leads to it' };

describe('the provider', () => {
  it('is by default verbs where a device leads to the address', async () => {
    expect(await chooseProvider('auto', ENDPOINT, 'connect', machine(led))).toEqual({
      name: 'verbs',
      reason: led.reason,
    });
  });

  it('is by default the software RNIC elsewhere, with the reason', async () => {
    const none = await chooseProvider('auto', ENDPOINT, 'connect', machine(lost));
    expect(none).toEqual({ name: 'iwarp', reason: expect.stringContaining(lost.reason) });
    const missing = await chooseProvider('auto', ENDPOINT, 'listen', machine(led, PROBLEM));
    expect(missing).toEqual({ name: 'iwarp', reason: expect.stringContaining(PROBLEM.reason) });
  });

  it('is what was asked for, or an error: never another one', async () => {
    expect(await chooseProvider('verbs', ENDPOINT, 'connect', machine(lost))).toMatchObject({
      name: 'verbs',
    });
    expect(await chooseProvider('iwarp', ENDPOINT, 'connect', machine(led))).toMatchObject({ name: 'iwarp' });
    await expect(chooseProvider('verbs', ENDPOINT, 'connect', machine(led, PROBLEM))).rejects.toMatchObject({
      code: 'PROVIDER_UNAVAILABLE',
      message: PROBLEM.message,
    });
  });

  it('is not guessed when the device cannot be asked', async () => {
    const broken = machine(new Error('the kernel is on fire'));
    await expect(chooseProvider('auto', ENDPOINT, 'connect', broken)).rejects.toThrow(
      'the kernel is on fire',
    );
  });
});

describe('the addon', () => {
  it('names no library of rdma-core: one build serves machines with and without it', async () => {
    const addon = fileURLToPath(new URL('../../build/Release/rdma_migrate.node', import.meta.url));
    const { stdout } = await promisify(execFile)('ldd', [addon]);
    expect(stdout).toContain('libc.so');
    expect(stdout).not.toMatch(/rdmacm|ibverbs/);
  });
});
