/** A QEMU that says nothing more, or is another user's. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { PassThrough } from 'node:stream';
import { expect, it } from 'vitest';
import { IncomingVm } from '../../lib/qemu/incoming.ts';
import { readOwnStream } from '../../lib/qemu/own-stream.ts';
import { userOf } from '../../lib/qemu/process.ts';

const NOBODY = 65534;
const target = {
  allocate: () => Promise.reject(new Error('no RAM was announced')),
  append: () => Promise.reject(new Error('no device state came')),
};

it('gives up a stream that does not go on, and closes it', async () => {
  const stream = new PassThrough();
  stream.write('QEVM');
  const signal = new AbortController().signal;
  await expect(readOwnStream(stream, target, { shared: [], timeoutMs: 20, signal })).rejects.toMatchObject({
    code: 'TIMEOUT',
    phase: 'device-state',
  });
  expect(stream.destroyed).toBe(true);
});

it('stops reading when its owner closes', async () => {
  const stream = new PassThrough();
  const owner = new AbortController();
  const reading = readOwnStream(stream, target, { shared: [], timeoutMs: 60_000, signal: owner.signal });
  owner.abort();
  await expect(reading).rejects.toMatchObject({ code: 'CANCELLED' });
  expect(stream.destroyed).toBe(true);
});

it('knows the user of a process', async () => {
  expect(await userOf(process.pid)).toEqual({ uid: process.geteuid?.(), gid: process.getegid?.() });
  await expect(userOf(2 ** 22 + 1)).rejects.toMatchObject({ code: 'GUEST_ERROR' });
});

it("refuses another user's QEMU before anything is asked of it", async ({ skip }) => {
  if (process.geteuid?.() !== 0) skip('needs root, to start a process of another user');
  const child: ChildProcess = spawn('sleep', ['60'], { uid: NOBODY, gid: NOBODY, stdio: 'ignore' });
  try {
    await once(child, 'spawn');
    const qemu = { qmp: {}, pid: child.pid, qmpSocket: '/x' };
    const opened = IncomingVm.open({ qemu, folder: '/x', records: {}, paused: false } as never);
    await expect(opened).rejects.toMatchObject({
      code: 'PERMISSION_DENIED',
      message: expect.stringContaining(`sudo -u '#${NOBODY}'`),
    });
  } finally {
    child.kill('SIGKILL');
  }
});
