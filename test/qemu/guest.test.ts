import { type FileHandle, open } from 'node:fs/promises';
import { expect, it } from 'vitest';
import { PAGE_SIZE, REGION_BASE } from '../../examples/guest/layout.ts';
import { type GuestState, readGuestState, verifyGuestRam } from '../../examples/guest/verify.ts';
import type { Qemu } from '../../examples/qemu/qemu.ts';
import { describeWithQemu, MIB, type VmFixture } from '../support/qemu-test.ts';

const RAM_BYTES = 64 * MIB;

async function pausedGuest(vms: VmFixture): Promise<Qemu> {
  const vm = await vms.start({ name: 'guest' });
  await vm.waitForPass();
  await vm.execute('stop');
  return vm;
}

async function edit<T>(path: string, change: (file: FileHandle) => Promise<T>): Promise<T> {
  const file = await open(path, 'r+');
  try {
    return await change(file);
  } finally {
    await file.close();
  }
}

const stateOf = (vm: Qemu) => edit(vm.ramFile, readGuestState);

const addressOf = (page: number) => REGION_BASE + page * PAGE_SIZE;

async function readPage(file: FileHandle, page: number): Promise<Buffer> {
  const bytes = Buffer.alloc(PAGE_SIZE);
  await file.read(bytes, 0, PAGE_SIZE, addressOf(page));
  return bytes;
}

/** Lets the guest run for at least a pass and then puts one page back to what it held before. */
async function replaceByOlder(vm: Qemu, page: number, length = PAGE_SIZE): Promise<void> {
  await edit(vm.ramFile, async (file) => {
    const older = await readPage(file, page);
    const { pass } = await readGuestState(file);
    await vm.execute('cont');
    await vm.waitForPass(pass + 1n);
    await vm.execute('stop');
    await file.write(older, 0, length, addressOf(page));
  });
}

/** A page that is not the one in progress. */
const settled = ({ cursor, pages }: GuestState) => (cursor + Math.floor(pages / 2)) % pages;

describeWithQemu('the guest of examples/guest', { ramBytes: RAM_BYTES }, (vms) => {
  it('counts its passes on the serial port', async () => {
    const vm = await vms.start({ name: 'guest' });
    const first = await vm.waitForPass();
    expect(await vm.waitForPass(first)).toBeGreaterThan(first);
  });

  it('changes all RAM from 2 MiB to what the BIOS keeps at the end', async () => {
    const vm = await pausedGuest(vms);
    const { pages } = await verifyGuestRam(vm.ramFile);
    expect(pages * PAGE_SIZE).toBeGreaterThan(RAM_BYTES - REGION_BASE - MIB);
  });

  it('keeps its invariant at whatever instruction it is stopped', async () => {
    const vm = await pausedGuest(vms);
    for (let i = 0; i < 15; i++) {
      const { steps } = await verifyGuestRam(vm.ramFile);
      await vm.execute('cont');
      await vm.waitUntil('a step', async () => (await stateOf(vm)).steps > steps || undefined);
      await vm.execute('stop');
    }
    await verifyGuestRam(vm.ramFile);
  });

  it('shows a stale page', async () => {
    const vm = await pausedGuest(vms);
    const page = settled(await verifyGuestRam(vm.ramFile));
    await replaceByOlder(vm, page);
    await expect(verifyGuestRam(vm.ramFile)).rejects.toMatchObject({
      code: 'IMAGE_INVALID',
      details: { page },
    });
  });

  it('shows a torn page', async () => {
    const vm = await pausedGuest(vms);
    const page = settled(await verifyGuestRam(vm.ramFile));
    await replaceByOlder(vm, page, 512);
    await expect(verifyGuestRam(vm.ramFile)).rejects.toMatchObject({
      code: 'IMAGE_INVALID',
      details: { page },
    });
  });

  it('shows a lost page', async () => {
    const vm = await pausedGuest(vms);
    const page = settled(await verifyGuestRam(vm.ramFile));
    await edit(vm.ramFile, (file) => file.write(Buffer.alloc(PAGE_SIZE), 0, PAGE_SIZE, addressOf(page)));
    await expect(verifyGuestRam(vm.ramFile)).rejects.toMatchObject({
      code: 'IMAGE_INVALID',
      details: { page },
    });
  });

  it('shows a page that lies in the place of its neighbour', async () => {
    const vm = await pausedGuest(vms);
    const page = settled(await verifyGuestRam(vm.ramFile));
    const other = page === 0 ? 1 : page - 1;
    await edit(vm.ramFile, async (file) =>
      file.write(await readPage(file, other), 0, PAGE_SIZE, addressOf(page)),
    );
    await expect(verifyGuestRam(vm.ramFile)).rejects.toMatchObject({
      code: 'IMAGE_INVALID',
      details: { page },
    });
  });

  it('finds a page itself that is not as it had left it, when it comes back to it', async () => {
    const vm = await pausedGuest(vms);
    const before = await verifyGuestRam(vm.ramFile);
    const page = settled(before);
    await edit(vm.ramFile, (file) => file.write(Buffer.alloc(4), 0, 4, addressOf(page) + 1536));
    await vm.execute('cont');
    await vm.waitForPass(before.pass + 1n);
    await vm.execute('stop');
    await expect(verifyGuestRam(vm.ramFile)).rejects.toMatchObject({
      message: expect.stringContaining('when the guest came back to it; pages like that: 1'),
      details: { page, bad: 1 },
    });
  });

  it('shows damage in the page in progress', async () => {
    const vm = await pausedGuest(vms);
    const { cursor: page } = await verifyGuestRam(vm.ramFile);
    await edit(vm.ramFile, (file) => file.write(Buffer.alloc(8), 0, 8, addressOf(page) + 1024));
    await expect(verifyGuestRam(vm.ramFile)).rejects.toMatchObject({
      code: 'IMAGE_INVALID',
      details: { page },
    });
  });

  it('shows a RAM file that is cut off, and one of another VM', async () => {
    const vm = await pausedGuest(vms);
    await edit(vm.ramFile, (file) => file.truncate(RAM_BYTES / 2));
    await expect(verifyGuestRam(vm.ramFile)).rejects.toThrow(/cut off/);
    await edit(vm.ramFile, (file) => file.write(Buffer.alloc(PAGE_SIZE), 0, PAGE_SIZE, 0x10_1000));
    await expect(verifyGuestRam(vm.ramFile)).rejects.toThrow(/no guest/);
    await vm.kill();
  });
});
