import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { buildGuest } from '../../examples/guest/build.ts';
import { qemuArguments, shellWord } from '../../examples/qemu/arguments.ts';
import { Qemu, qemuMissing } from '../../examples/qemu/qemu.ts';
import { describeWithQemu, MIB } from '../support/qemu-test.ts';

describe('the launcher without a QEMU', () => {
  it('names the package to install', async () => {
    expect(qemuMissing('/nonexistent/qemu')).toContain('apt-get install qemu-system-x86');
    const options = { name: 'vm', folder: tmpdir(), ramFile: 'ram', ramBytes: MIB, kernel: 'guest' };
    await expect(Qemu.start({ ...options, executable: '/nonexistent/qemu' })).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining('apt-get install qemu-system-x86'),
    });
  });

  it('keeps commas in paths from being read as options', () => {
    const machine = { ramFile: '/a,b', ramBytes: MIB, kernel: 'guest', serialFile: '/c,d' };
    expect(qemuArguments(machine).join(' ')).toMatch(/mem-path=\/a,,b,share=on.*path=\/c,,d /);
  });

  it('keeps a shell from reading a path as code', () => {
    expect(shellWord("a'; rm b")).toBe(`'a'\\''; rm b'`);
  });
});

describe('the builder of the guest', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-guest-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  it.each([0, -4096, 4095, Number.NaN])('refuses a region of %s bytes', async (regionBytes) => {
    const build = buildGuest({ output: join(folder, 'guest'), regionBytes });
    await expect(build).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });

  it('names the package to install when there is no assembler', async () => {
    const path = process.env.PATH;
    process.env.PATH = folder;
    try {
      await expect(buildGuest({ output: join(folder, 'guest') })).rejects.toThrow(/apt-get install binutils/);
    } finally {
      process.env.PATH = path;
    }
  });
});

describeWithQemu('the launcher', { ramBytes: 32 * MIB }, (vms) => {
  it('says what QEMU said when it ends at once', async () => {
    const ramFile = vms.path('no-such-folder/ram');
    await expect(vms.start({ name: 'vm', ramFile })).rejects.toMatchObject({
      code: 'IO_ERROR',
      message: expect.stringContaining('no-such-folder'),
    });
  });

  it('says that QEMU ended to who waits for its guest', async () => {
    const vm = await vms.start({ name: 'vm' });
    const pass = await vm.waitForPass();
    const waiting = vm.waitForPass(pass + 2n ** 40n);
    await vm.kill();
    await expect(waiting).rejects.toMatchObject({ code: 'IO_ERROR' });
  });

  it('ends QEMU when it is closed, also one that is stopped from outside, and twice', async () => {
    const vm = await vms.start({ name: 'vm' });
    process.kill(vm.pid ?? 0, 'SIGSTOP');
    await Promise.all([vm.close(), vm.close()]);
    expect(vm.alive).toBe(false);
    expect(() => process.kill(vm.pid ?? 0, 0)).toThrow(/ESRCH/);
  });
});
