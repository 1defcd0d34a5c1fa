import { once } from 'node:events';
import { createReadStream, createWriteStream } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { Readable } from 'node:stream';
import { promisify } from 'node:util';
import { createGunzip, gunzip } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { verifyGuestRam } from '../../examples/guest/verify.ts';
import { loadStream, saveStream } from '../../examples/qemu/migrate.ts';
import { parsePasses, type Qemu } from '../../examples/qemu/qemu.ts';
import { fromQemu, inspect, type ToQemuOptions, toQemu } from '../../lib/image/index.ts';
import { readStream } from '../support/qemu-stream.ts';
import { describeWithQemu, MIB } from '../support/qemu-test.ts';
import { expectError, namesIn, temporaryFolder } from './support.ts';

const RAM_BYTES = 32 * MIB;
const RAM = 'pc.ram';

const fixtureUrl = (name: string) => new URL(`../fixtures/qemu/${name}.gz`, import.meta.url);
const unpacked = async (name: string): Promise<Buffer> => promisify(gunzip)(await readFile(fixtureUrl(name)));

async function writeStream(image: string, file: string, options: ToQemuOptions = {}): Promise<void> {
  const output = createWriteStream(file);
  await toQemu(image, output, options);
  output.end();
  await once(output, 'close');
}

/** Every block's content as the pages of a stream leave it. */
function ramOf(bytes: Buffer): Map<string, Buffer> {
  const { blocks, pages } = readStream(bytes);
  const ram = new Map(blocks.map(({ name, length }) => [name, Buffer.alloc(Number(length))]));
  for (const { block, offset, data } of pages) {
    const at = Number(offset);
    if (data === undefined) ram.get(block)?.fill(0, at, at + 4096);
    else data.copy(ram.get(block) ?? Buffer.alloc(0), at);
  }
  return ram;
}

describe('the stream of a real VM', () => {
  it('becomes an image with its RAM and devices, through a pipe', async () => {
    await using folder = await temporaryFolder();
    const input = createReadStream(fixtureUrl('plain.stream')).pipe(createGunzip());
    const result = await fromQemu(input, folder.at('vm'));
    expect(result).toMatchObject({ completeness: 'vmdescription' });
    expect(result.machine).toMatch(/^pc-i440fx-/);
    expect((await verifyGuestRam(folder.at('vm/ram-0.bin'))).pages).toBe(512);
    const { blocks, devices, allocatedBytes, ramBytes } = await inspect(folder.at('vm'));
    expect(blocks.map(({ name }) => name)).toEqual([...ramOf(await unpacked('plain.stream')).keys()]);
    expect(devices?.map(({ name }) => name)).toContain('ioapic');
    expect(allocatedBytes).toBeLessThan(ramBytes / 2n);
  });

  it('goes through an image and comes out with the same RAM and the same device state', async () => {
    await using folder = await temporaryFolder();
    const original = await unpacked('plain.stream');
    await fromQemu(Readable.from([original]), folder.at('vm'));
    await writeStream(folder.at('vm'), folder.at('stream'));
    const back = await readFile(folder.at('stream'));
    const [before, after] = [readStream(original), readStream(back)];
    expect(after.blocks).toEqual(before.blocks);
    expect(after.machine).toBe(before.machine);
    expect(after.devices.equals(before.devices)).toBe(true);
    expect(after.vmDescription).toEqual(before.vmDescription);
    const ram = ramOf(back);
    for (const [name, content] of ramOf(original))
      expect([name, ram.get(name)?.equals(content)]).toEqual([name, true]);
  });

  it('made with x-ignore-shared needs the RAM file, and comes out as it was', async () => {
    await using folder = await temporaryFolder();
    const original = await unpacked('ignore-shared.stream');
    await writeFile(folder.at('ram'), await unpacked('ignore-shared.ram'));
    await expectError(
      fromQemu(Readable.from([original]), folder.at('vm')),
      'INVALID_ARGUMENT',
      'sharedRam',
      RAM,
    );
    expect(await namesIn(folder.path)).toEqual(['ram']);
    const sharedRam = { [RAM]: folder.at('ram') };
    await fromQemu(Readable.from([original]), folder.at('vm'), { sharedRam });
    await writeStream(folder.at('vm'), folder.at('stream'), { ramFiles: sharedRam, ignoreShared: [RAM] });
    const [before, after] = [readStream(original), readStream(await readFile(folder.at('stream')))];
    expect(after.capabilities).toEqual(before.capabilities);
    expect(after.blocks).toEqual(before.blocks);
    expect(after.devices.equals(before.devices)).toBe(true);
    expect(after.pages.some(({ block }) => block === RAM)).toBe(false);
  });

  it('cut anywhere is refused and leaves nothing', async () => {
    await using folder = await temporaryFolder();
    const original = await unpacked('plain.stream');
    for (let part = 1; part < 40; part++) {
      const cut = original.subarray(0, Math.floor((original.length * part) / 40));
      await expectError(fromQemu(Readable.from([cut]), folder.at('vm')), 'STREAM_TRUNCATED');
    }
    await expectError(
      fromQemu(Readable.from([original.subarray(0, -1)]), folder.at('vm')),
      'STREAM_TRUNCATED',
    );
    expect(await namesIn(folder.path)).toEqual([]);
  });
});

/** The destination has the source's memory and its guest goes on. */
async function expectToGoOn(source: Qemu, destination: Qemu): Promise<void> {
  const before = await verifyGuestRam(source.ramFile);
  expect(await verifyGuestRam(destination.ramFile)).toEqual(before);
  await destination.execute('cont');
  const counted = async () => (await destination.serialText()).includes('\n') || undefined;
  await destination.waitUntil('the guest to count', counted);
  await destination.execute('stop');
  // The first line of the destination may be the rest of the source's last one.
  const passes = parsePasses((await source.serialText()) + (await destination.serialText()));
  expect(passes).toEqual([...new Set(passes)].sort((a, b) => Number(a - b)));
  expect((await verifyGuestRam(destination.ramFile)).steps).toBeGreaterThan(before.steps);
}

describeWithQemu('an image and stock QEMU', { ramBytes: RAM_BYTES, regionBytes: 2 * MIB }, (vms) => {
  it('takes a paused VM from a plain stream to a second QEMU, where it goes on', async () => {
    await using folder = await temporaryFolder();
    const source = await vms.start({ name: 'source' });
    await source.waitForPass();
    await saveStream(source, { file: vms.path('stream'), ignoreShared: false });
    await fromQemu(createReadStream(vms.path('stream')), folder.at('vm'));
    await writeStream(folder.at('vm'), folder.at('again'));
    const destination = await vms.start({ name: 'destination', incoming: 'defer' });
    await loadStream(destination, { file: folder.at('again'), ignoreShared: false });
    await expectToGoOn(source, destination);
  });

  it('lets a second QEMU map the received RAM file itself', async () => {
    await using folder = await temporaryFolder();
    const source = await vms.start({ name: 'source' });
    await source.waitForPass();
    await saveStream(source, { file: vms.path('stream'), ignoreShared: false });
    const ramFile = vms.path('destination.ram');
    await fromQemu(createReadStream(vms.path('stream')), folder.at('vm'), { ramFiles: { [RAM]: ramFile } });
    await writeStream(folder.at('vm'), folder.at('again'), {
      ramFiles: { [RAM]: ramFile },
      ignoreShared: [RAM],
      guestAddresses: { [RAM]: 0n },
    });
    const destination = await vms.start({ name: 'destination', ramFile, incoming: 'defer' });
    await loadStream(destination, { file: folder.at('again'), ignoreShared: true });
    await expectToGoOn(source, destination);
  });

  it('takes a VM whose RAM is in a shared file, straight from there', async () => {
    await using folder = await temporaryFolder();
    const source = await vms.start({ name: 'source' });
    await source.waitForPass();
    await saveStream(source, { file: vms.path('stream'), ignoreShared: true });
    const sharedRam = { [RAM]: source.ramFile };
    await fromQemu(createReadStream(vms.path('stream')), folder.at('vm'), { sharedRam });
    await writeStream(folder.at('vm'), folder.at('again'), { ramFiles: sharedRam });
    const destination = await vms.start({ name: 'destination', incoming: 'defer' });
    await loadStream(destination, { file: folder.at('again'), ignoreShared: false });
    await expectToGoOn(source, destination);
  });
});
