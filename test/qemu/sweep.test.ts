/** Old, settled things go; nothing that is open does. */
import { once } from 'node:events';
import { access, mkdir, mkdtemp, rm, utimes, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { describeSelf } from '../../lib/owner.ts';
import { type MigrationRecord, Records } from '../../lib/qemu/records.ts';
import { sweepState } from '../../lib/qemu/sweep.ts';

const AFTER = Date.now() + 8 * 24 * 3600_000;
let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-sweep-'));
});
afterEach(() => rm(folder, { recursive: true, force: true }));

const idOf = (n: number): string => `00000000-0000-4000-8000-00000000000${n}`;
const gone = { pid: process.pid, startTime: '1' };

async function write(n: number, changes: Partial<MigrationRecord>): Promise<string> {
  const records = new Records(folder);
  await records.write({
    migrationId: idOf(n),
    receiver: { ...(await describeSelf()), ...gone },
    state: 'receiving',
    qemu: { ...gone, qmp: '/nowhere/qmp.sock' },
    ...changes,
  });
  return records.pathOf(idOf(n));
}

async function vmFolder(name: string): Promise<string> {
  const path = join(folder, name);
  await mkdir(path);
  await writeFile(join(path, 'qemu.log'), '');
  return path;
}

it('removes records that were decided and whose QEMU has ended, seven days later, and no other', async () => {
  const here = await describeSelf();
  const alive = { pid: here.pid, startTime: here.startTime, qmp: '/nowhere/qmp.sock' };
  const settled = [await write(1, { state: 'taken' }), await write(2, { state: 'not-taken' })];
  const justSettled = await write(3, {});
  const open = [
    await write(4, { state: 'starting' }),
    await write(5, { receiver: here }),
    await write(6, { qemu: alive }),
    await write(7, { state: 'taken', receiver: { ...here, ...gone, pidNamespace: 'pid:[1]' } }),
    await write(8, { state: 'taken', qemu: alive }),
  ];
  const damaged = join(folder, 'migrations', `${idOf(9)}.json`);
  await writeFile(damaged, '{');
  expect(await sweepState(folder)).toEqual([]);
  expect((await sweepState(folder, AFTER)).sort()).toEqual(settled.sort());
  for (const path of [...open, damaged]) await access(path);
  // That it has not been taken follows since its processes have ended, which may have been a moment ago: its source may ask still.
  expect(await new Records(folder).read(idOf(3))).toMatchObject({ state: 'not-taken' });
  expect(await sweepState(folder, AFTER)).toEqual([justSettled]);
});

it('removes what was half written, and sockets of streams', async () => {
  await write(1, { state: 'starting' });
  const half = join(folder, 'migrations', `${idOf(2)}.json.new`);
  await writeFile(half, '{');
  const stream = join(folder, 'in-aaaaaa');
  await mkdir(stream);
  expect((await sweepState(folder, AFTER)).sort()).toEqual([stream, half].sort());
});

it('removes folders of QEMUs that have ended, and none in which one listens or about which nothing is decided', async () => {
  const ended = await vmFolder('vm-aaaaaa');
  const listening = await vmFolder('vm-bbbbbb');
  const undecided = await vmFolder('vm-cccccc');
  const written = await vmFolder('vm-dddddd');
  const another = await vmFolder('vm-of-somebody');
  await write(1, { state: 'starting', qemu: { ...gone, qmp: join(undecided, 'qmp.sock') } });
  await utimes(join(written, 'qemu.log'), AFTER / 1000, AFTER / 1000);
  const server = createServer().listen(join(listening, 'qmp.sock'));
  try {
    await once(server, 'listening');
    expect(await sweepState(folder)).toEqual([]);
    expect(await sweepState(folder, AFTER)).toEqual([ended]);
    for (const path of [listening, undecided, written, another]) await access(path);
  } finally {
    server.close();
  }
});

it('finds nothing to do where there is no state yet', async () => {
  expect(await sweepState(join(folder, 'none'))).toEqual([]);
});
