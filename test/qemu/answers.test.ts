/** What a QEMU, a kernel, a peer or a file says is checked before anything follows from it. */
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { describeSelf } from '../../lib/owner.ts';
import { decodeStatus, encodeStatus } from '../../lib/protocol/status.ts';
import { parseMemoryTree } from '../../lib/qemu/addresses.ts';
import { decodeDescription, encodeDescription, requireSameVm } from '../../lib/qemu/description.ts';
import { missing } from '../../lib/qemu/devices.ts';
import { waitingArguments } from '../../lib/qemu/launch.ts';
import { parseRamBlocks } from '../../lib/qemu/machine.ts';
import { parseMaps } from '../../lib/qemu/process.ts';
import { type MigrationRecord, makeStateFolder, Records } from '../../lib/qemu/records.ts';

const ID = '6f1c1b1e-5b0e-4a6e-9a55-0f3c3f0a9d11';

const HEAD = '              Block Name    PSize              Offset               Used              Total';
const OLD = `${HEAD}\r
                  pc.ram    4 KiB  0x0000000000000000 0x0000000004000000 0x0000000004000000\r
    /rom@etc/acpi/tables    4 KiB  0x0000000004080000 0x0000000000020000 0x0000000000200000\r
`;
const NEW = `${HEAD}                HVA  RO
                  pc.ram    4 KiB  0x0000000000000000 0x0000000004000000 0x0000000004000000 0x00007ff01ffff000  rw
                   mem-1    2 MiB  0x0000000004080000 0x0000000000200000 0x0000000000200000 0x00007ff069000000  ro
`;

it('reads the list of RAM blocks of QEMU 7.2 and of 10.0', () => {
  expect(parseRamBlocks(OLD)).toEqual([
    { name: 'pc.ram', length: 0x400_0000n },
    { name: '/rom@etc/acpi/tables', length: 0x2_0000n },
  ]);
  expect(parseRamBlocks(NEW)).toEqual([
    { name: 'pc.ram', length: 0x400_0000n, hostAddress: 0x7ff01ffff000n },
    { name: 'mem-1', length: 0x20_0000n, hostAddress: 0x7ff069000000n },
  ]);
});

it.for([
  'unknown command',
  `${HEAD}\nsomething else`,
  `${HEAD}\n pc.ram 4 KiB 0x0 0x0000000000000000 0x0`,
  `${HEAD}\n pc.ram 4 KiB 0x0 0x11111111111111111 0x0`,
  `${HEAD}\n a 4 KiB 0x0 0x1000 0x1000\n a 4 KiB 0x0 0x1000 0x1000`,
])('refuses a list of RAM blocks that is none: %j', (table) => {
  expect(() => parseRamBlocks(table)).toThrow(expect.objectContaining({ code: 'GUEST_ERROR' }));
});

it('finds where the guest sees a block, in the address space of the memory alone', () => {
  const tree = `FlatView #0
 AS "mch", root: bus master container
  0000000000000000-00000000000bffff (prio 0, ram): other

FlatView #1
 AS "memory", root: system
 Root memory region: system
  0000000000000000-00000000000bffff (prio 0, ram): mem0
  00000000000c0000-00000000000dffff (prio 1, rom): pc.rom
  00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic
  0000000100000000-00000001bfffffff (prio 0, ram): mem1 @0000000040000000 KVM
`;
  expect(parseMemoryTree(tree)).toEqual([
    { name: 'mem0', guestAddress: 0n, offset: 0n },
    { name: 'mem1', guestAddress: 0x1_0000_0000n, offset: 0x4000_0000n },
  ]);
  expect(parseMemoryTree('')).toEqual([]);
});

it('reads mappings with every kind of file name, and leaves out what is no row', () => {
  const text = `7ff01ffff000-7ff023fff000 rw-s 00000000 00:01 2049                       /memfd:memory-backend-memfd (deleted)
7ff024000000-7ff024021000 rw-p 00000000 00:00 0
garbage
7ff0-7fff r--s 00001000 fe:00 77 /dev/shm/a file
`;
  expect(parseMaps(text)).toEqual([
    {
      ...{ from: 0x7ff01ffff000n, to: 0x7ff023fff000n, shared: true, offset: 0n, inode: 2049n },
      path: '/memfd:memory-backend-memfd (deleted)',
    },
    { from: 0x7ff024000000n, to: 0x7ff024021000n, shared: false, offset: 0n, inode: 0n, path: '' },
    { from: 0x7ff0n, to: 0x7fffn, shared: true, offset: 0x1000n, inode: 77n, path: '/dev/shm/a file' },
  ]);
});

const vm = {
  qemu: '7.2.22',
  machine: 'pc-i440fx-7.2',
  running: true,
  blocks: [
    { name: 'pc.ram', length: '67108864', guestAddress: '0' },
    { name: 'pc.bios', length: '262144' },
  ],
  devices: ['internal cpu', 'internal cpu', 'pci 0.0 8086:1237', 'virtio-net-pci'],
};

it('carries a description, and compares all of it', () => {
  const came = decodeDescription(encodeDescription(vm));
  expect(came).toMatchObject(vm);
  expect(() => requireSameVm(came, vm)).not.toThrow();
  const refuse = (other: Partial<typeof vm>, why: RegExp) =>
    expect(() => requireSameVm({ ...came, ...other }, vm)).toThrow(why);
  refuse({ machine: 'pc-q35-7.2' }, /machine pc-q35-7.2 there and pc-i440fx-7.2 here/);
  refuse({ devices: vm.devices.slice(1) }, /device internal cpu only here/);
  refuse({ devices: [...vm.devices, 'i6300esb'] }, /device i6300esb only at the source/);
  refuse({ blocks: vm.blocks.slice(0, 1) }, /RAM block pc.bios of 262144 bytes only here/);
  refuse(
    { blocks: [{ name: 'pc.ram', length: '67108864' }, vm.blocks[1] as never] },
    /shared, at 0x0 only here/,
  );
  // Another release divides the same machine in another way; what the user has asked for is compared.
  expect(() => requireSameVm({ ...came, qemu: '10.0.2', devices: vm.devices.slice(2) }, vm)).not.toThrow();
  refuse({ qemu: '10.0.2', devices: vm.devices.slice(0, 3) }, /virtio-net-pci only here/);
});

it.for<[string, unknown]>([
  ['no JSON', '{'],
  ['another format', { format: 'x', version: 1, ...vm }],
  ['another version', { format: 'rdma-migrate-qemu', version: 2, ...vm }],
  ['no blocks', { format: 'rdma-migrate-qemu', version: 1, ...vm, blocks: [] }],
  [
    'a length that is no number',
    { format: 'rdma-migrate-qemu', version: 1, ...vm, blocks: [{ name: 'a', length: '-1' }] },
  ],
  ['a name that moves a cursor', { format: 'rdma-migrate-qemu', version: 1, ...vm, machine: 'pc\u001b[2J' }],
  ['devices that are objects', { format: 'rdma-migrate-qemu', version: 1, ...vm, devices: [{}] }],
  [
    'more devices than any machine has',
    { format: 'rdma-migrate-qemu', version: 1, ...vm, devices: Array(9000).fill('a') },
  ],
])('refuses a description with %s', ([, said]) => {
  const bytes = Buffer.from(typeof said === 'string' ? said : JSON.stringify(said));
  expect(() => decodeDescription(bytes)).toThrow(expect.objectContaining({ code: 'PROTOCOL_ERROR' }));
});

it('counts what is missing', () => {
  expect(missing(['a', 'a', 'b'], ['a', 'c'])).toEqual(['a', 'b']);
});

it('takes nothing for a status but its words', () => {
  for (const word of ['unknown', 'taken', 'not-taken', 'undecided'] as const)
    expect(decodeStatus(encodeStatus(word))).toBe(word);
  for (const bytes of [[], [0, 0, 0, 4], [1], [0, 0, 0, 0, 1]])
    expect(() => decodeStatus(Uint8Array.from(bytes))).toThrow(
      expect.objectContaining({ code: 'PROTOCOL_ERROR' }),
    );
});

it('adds to the options of a QEMU what waiting takes, and RAM only where they have none', () => {
  const plain = waitingArguments(['-m', '4G,slots=2', '-nographic'], '/run/x,y/vm-abcdef');
  expect(plain.args).toContain(
    'socket,id=rdma-migrate-qmp,path=/run/x,,y/vm-abcdef/qmp.sock,server=on,wait=off',
  );
  expect(plain.args.join(' ')).toMatch(
    /memory-backend-file,id=pc.ram,size=4G,mem-path=\S+,share=on -machine memory-backend=pc.ram/,
  );
  expect(plain.args.slice(-2)).toEqual(['-incoming', 'defer']);
  expect(plain.files).toHaveLength(1);
  const given = waitingArguments(['-object', 'memory-backend-memfd,id=m,size=1G,share=on'], '/run/vm-abcdef');
  expect(given.files).toEqual([]);
  for (const wrong of [['-incoming', 'tcp:0:1'], ['-daemonize'], ['-m', 'lots']])
    expect(() => waitingArguments(wrong, '/run/vm')).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT' }),
    );
});

it('says not-taken only of a migration whose receiver and whose QEMU have both ended undecided', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-records-'));
  try {
    const records = new Records(folder);
    const here = await describeSelf();
    const self = { pid: here.pid, startTime: here.startTime };
    // Of an earlier process with that number.
    const gone = { ...self, startTime: '1' };
    const said = async (
      receiver: typeof self,
      qemu: typeof self,
      state: MigrationRecord['state'] = 'receiving',
      elsewhere: Partial<typeof here> = {},
    ) => {
      const place = { ...here, ...receiver, ...elsewhere };
      await records.write({ migrationId: ID, receiver: place, state, qemu: { ...qemu, qmp: '/x' } });
      return await records.word(ID);
    };
    expect(await records.word(ID)).toBe('unknown');
    expect(await said(self, gone)).toBe('undecided');
    expect(await said(gone, self)).toBe('undecided');
    expect(await said(gone, gone)).toBe('not-taken');
    // It may have run, and be gone since.
    expect(await said(gone, gone, 'starting')).toBe('undecided');
    expect(await said(gone, gone, 'taken')).toBe('taken');
    // Processes of another PID namespace or host cannot be looked for here; what was decided there counts.
    for (const elsewhere of [{ pidNamespace: 'pid:[1]' }, { bootId: 'another', machineId: '0'.repeat(32) }]) {
      expect(await said(gone, gone, 'receiving', elsewhere)).toBe('undecided');
      expect(await said(gone, gone, 'not-taken', elsewhere)).toBe('not-taken');
    }
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

it('keeps its state where nobody else may write', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-state-'));
  try {
    await makeStateFolder(join(folder, 'made', 'here'));
    await chmod(folder, 0o777);
    await expect(makeStateFolder(folder)).rejects.toMatchObject({ code: 'PERMISSION_DENIED' });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});

it('keeps records by id, and refuses ids that are paths and files that are none', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-records-'));
  try {
    const records = new Records(folder);
    expect(await records.read(ID)).toBeUndefined();
    const record = {
      migrationId: ID,
      receiver: { pid: 1, startTime: '2', pidNamespace: 'pid:[3]', bootId: 'b' },
      state: 'taken',
      qemu: { pid: 3, startTime: '4', qmp: '/q' },
    } as const;
    await records.write(record);
    expect(await records.read(ID)).toEqual(record);
    await writeFile(join(folder, 'migrations', `${ID}.json`), '{"state":"not-taken"}');
    await expect(records.read(ID)).rejects.toMatchObject({ code: 'IO_ERROR' });
    await expect(records.read('../../etc/passwd')).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
});
