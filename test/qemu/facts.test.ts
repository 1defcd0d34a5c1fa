import { once } from 'node:events';
import { createWriteStream } from 'node:fs';
import { copyFile, readFile, stat, writeFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { expect, it } from 'vitest';
import { verifyGuestRam } from '../../examples/guest/verify.ts';
import { loadStream, saveStream } from '../../examples/qemu/migrate.ts';
import { parsePasses, type Qemu } from '../../examples/qemu/qemu.ts';
import { readStream, withoutIgnoreShared } from '../support/qemu-stream.ts';
import { describeWithQemu, MIB, type VmFixture } from '../support/qemu-test.ts';

const RAM_BYTES = 32 * MIB;
const BLOCKS = [
  ['pc.ram', BigInt(RAM_BYTES), 0n],
  ['/rom@etc/acpi/tables', 0x2_0000n, 0n],
  ['pc.bios', 0x4_0000n, 0xfffc_0000n],
  ['pc.rom', 0x2_0000n, 0xc_0000n],
  ['/rom@etc/table-loader', 0x1000n, 0n],
  ['/rom@etc/acpi/rsdp', 0x1000n, 0n],
] as const;

/** A stopped source and its stream. */
async function saved(vms: VmFixture, ignoreShared: boolean): Promise<{ source: Qemu; file: string }> {
  const source = await vms.start({ name: 'source' });
  await source.waitForPass();
  const file = vms.path('stream');
  await saveStream(source, { file, ignoreShared });
  return { source, file };
}

/** The guest prints every n-th pass: all gaps are the same unless a line was lost, printed twice or torn. */
const gaps = (passes: readonly bigint[]) => passes.slice(1).map((pass, i) => pass - (passes[i] ?? 0n));

/** The destination goes on where the source was: nothing lost, printed twice, or torn, on the line and in RAM. */
async function expectToGoOn(source: Qemu, destination: Qemu): Promise<void> {
  const before = await verifyGuestRam(source.ramFile);
  expect(await verifyGuestRam(destination.ramFile)).toEqual(before);
  await destination.execute('cont');
  const passes = parsePasses(await source.serialText());
  await destination.waitUntil(
    'the guest to count',
    async () => (await destination.serialText()).includes('\n') || undefined,
  );
  await destination.execute('stop');
  const all = parsePasses((await source.serialText()) + (await destination.serialText()));
  expect(all.length).toBeGreaterThan(passes.length);
  expect(new Set(gaps(all)).size).toBe(1);
  const after = await verifyGuestRam(destination.ramFile);
  expect(after.steps).toBeGreaterThan(before.steps);
}

const isEqual = async (a: string, b: string) => (await readFile(a)).equals(await readFile(b));

describeWithQemu('stock QEMU: x-ignore-shared', { ramBytes: RAM_BYTES }, (vms) => {
  it('leaves pc.ram out of the stream, and tells the capability and the guest addresses', async () => {
    const { file } = await saved(vms, true);
    const stream = readStream(await readFile(file));
    expect(stream.machine).toMatch(/^pc-i440fx-/);
    expect(stream.capabilities).toEqual(['x-ignore-shared']);
    expect(stream.blocks.map((b) => [b.name, b.length, b.guestAddress])).toEqual(BLOCKS);
    const carried = new Set(stream.pages.map((page) => page.block));
    expect([...carried]).toEqual(BLOCKS.map(([name]) => name).slice(1));
  });

  it('takes the VM with a copy of its RAM file to a second QEMU, where it goes on', async () => {
    const { source, file } = await saved(vms, true);
    const ramFile = vms.path('copy.ram');
    await copyFile(source.ramFile, ramFile);
    const destination = await vms.start({ name: 'destination', ramFile, incoming: 'defer' });
    await loadStream(destination, { file, ignoreShared: true });
    expect(await destination.status()).toBe('paused');
    expect(await isEqual(source.ramFile, ramFile)).toBe(true);
    await expectToGoOn(source, destination);
  });

  it('becomes a plain stream without the capability and the addresses, and with the pages', async () => {
    const { source, file } = await saved(vms, true);
    const plain = vms.path('plain');
    const stream = readStream(await readFile(file));
    const ram = await readFile(source.ramFile);
    await once(
      Readable.from(withoutIgnoreShared(stream, 'pc.ram', ram)).pipe(createWriteStream(plain)),
      'finish',
    );
    const destination = await vms.start({ name: 'destination', incoming: 'defer' });
    await loadStream(destination, { file: plain, ignoreShared: false });
    expect(await isEqual(source.ramFile, destination.ramFile)).toBe(true);
    await expectToGoOn(source, destination);
  });

  it('is refused by a destination without the capability, which ends', async () => {
    const { file } = await saved(vms, true);
    const destination = await vms.start({ name: 'destination', incoming: 'defer' });
    await expect(loadStream(destination, { file, ignoreShared: false })).rejects.toThrow(
      'Capability x-ignore-shared is off, but received capability is on',
    );
    expect(destination.alive).toBe(false);
  });
});

describeWithQemu('stock QEMU: a plain stream', { ramBytes: RAM_BYTES }, (vms) => {
  it('carries all RAM, and goes on in a second QEMU', async () => {
    const { source, file } = await saved(vms, false);
    const stream = readStream(await readFile(file));
    expect(stream.capabilities).toEqual([]);
    expect(stream.blocks.map((b) => [b.name, b.length])).toEqual(
      BLOCKS.map(([name, length]) => [name, length]),
    );
    const offsets = stream.pages.filter((page) => page.block === 'pc.ram').map((page) => page.offset);
    expect(new Set(offsets).size).toBe(RAM_BYTES / 4096);
    const destination = await vms.start({ name: 'destination', incoming: 'defer' });
    await loadStream(destination, { file, ignoreShared: false });
    expect(await isEqual(source.ramFile, destination.ramFile)).toBe(true);
    await expectToGoOn(source, destination);
  });

  it('is refused by a destination with x-ignore-shared, which ends', async () => {
    const { file } = await saved(vms, false);
    const destination = await vms.start({ name: 'destination', incoming: 'defer' });
    await expect(loadStream(destination, { file, ignoreShared: true })).rejects.toThrow(
      'Capability x-ignore-shared is on, but received capability is off',
    );
  });

  it('ends the destination when it is cut off in the device state', async () => {
    const { file } = await saved(vms, false);
    const bytes = await readFile(file);
    const { devices } = readStream(bytes);
    await writeFile(file, bytes.subarray(0, bytes.indexOf(devices) + devices.length / 2));
    const destination = await vms.start({ name: 'destination', incoming: 'defer' });
    await expect(loadStream(destination, { file, ignoreShared: false })).rejects.toThrow(
      /load of migration failed/,
    );
  });
});

describeWithQemu('stock QEMU: run states', { ramBytes: RAM_BYTES, regionBytes: 2 * MIB }, (vms) => {
  it('is postmigrate after a migration, and migrates again only after cont', async () => {
    const { source, file } = await saved(vms, true);
    expect(await source.status()).toBe('postmigrate');
    await expect(source.execute('migrate', { uri: `exec:cat>${file}` })).rejects.toThrow(
      "Can't migrate the vm that was paused due to previous migration",
    );
    await source.execute('cont');
    await saveStream(source, { file, ignoreShared: false });
    expect(readStream(await readFile(file)).capabilities).toEqual([]);
  });

  it('lets the guest go on when a migration has failed', async () => {
    const source = await vms.start({ name: 'source' });
    const pass = await source.waitForPass();
    const file = vms.path('no-such-folder/stream');
    await expect(saveStream(source, { file, ignoreShared: false })).rejects.toMatchObject({
      code: 'PEER_ERROR',
    });
    expect(await source.status()).toBe('running');
    await source.waitForPass(pass);
  });

  it('calls a migration completed although its command failed on the last bytes', async () => {
    const { source, file } = await saved(vms, true);
    const { size } = await stat(file);
    await source.execute('cont');
    await source.execute('stop');
    const events = source.qmp.events();
    await source.execute('migrate-set-capabilities', {
      capabilities: [{ capability: 'events', state: true }],
    });
    await source.execute('migrate', { uri: `exec:head -c ${size - 100}>${file}; exit 1` });
    for await (const { name, data } of events) {
      if (name !== 'MIGRATION' || data.status === 'setup' || data.status === 'active') continue;
      expect(data.status).toBe('completed');
      break;
    }
    const bytes = await readFile(file);
    expect(() => readStream(bytes)).toThrow();
  });

  it.each([
    { paused: false, status: 'running' },
    { paused: true, status: 'paused' },
  ])(
    'makes the VM of a running source $status at a destination with -S: $paused',
    async ({ paused, status }) => {
      const source = await vms.start({ name: 'source' });
      await source.waitForPass();
      const file = vms.path('stream');
      await source.execute('migrate', { uri: `exec:cat>${file}` });
      await source.waitUntil(
        'postmigrate',
        async () => (await source.status()) === 'postmigrate' || undefined,
      );
      const destination = await vms.start({ name: 'destination', incoming: 'defer', paused });
      expect(await destination.status()).toBe('inmigrate');
      await loadStream(destination, { file, ignoreShared: false });
      expect(await destination.status()).toBe(status);
    },
  );

  it('stays inmigrate when the incoming command gives nothing', async () => {
    const destination = await vms.start({ name: 'destination', incoming: 'defer' });
    const nothing = loadStream(destination, { file: '/nonexistent', ignoreShared: false, timeoutMs: 1_000 });
    await expect(nothing).rejects.toMatchObject({ code: 'TIMEOUT' });
    expect(await destination.status()).toBe('inmigrate');
  });
});
