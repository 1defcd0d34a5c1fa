import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { verifyGuestRam } from '../../examples/guest/verify.ts';
import { loadStream } from '../../examples/qemu/migrate.ts';
import { readStream } from '../support/qemu-stream.ts';
import { describeWithQemu, MIB } from '../support/qemu-test.ts';

const RAM_BYTES = 32 * MIB;

/** A file of test/fixtures/qemu, unpacked. */
async function fixture(name: string): Promise<Buffer> {
  const packed = await readFile(new URL(`../fixtures/qemu/${name}.gz`, import.meta.url));
  return promisify(gunzip)(packed);
}

describe('the fixtures of test/fixtures/qemu', () => {
  let folder: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-fixtures-'));
  });
  afterAll(() => rm(folder, { recursive: true, force: true }));

  async function verified(ram: Buffer): Promise<number> {
    const file = join(folder, 'ram');
    await writeFile(file, ram);
    return (await verifyGuestRam(file)).pages;
  }

  it('hold in the plain stream RAM that a running guest left', async () => {
    const { pages } = readStream(await fixture('plain.stream'));
    const ram = Buffer.alloc(RAM_BYTES);
    for (const { block, offset, data } of pages) {
      if (block === 'pc.ram') data?.copy(ram, Number(offset));
    }
    expect(await verified(ram)).toBe(512);
  });

  it('hold beside the x-ignore-shared stream the RAM that it leaves out', async () => {
    const stream = readStream(await fixture('ignore-shared.stream'));
    expect(stream.capabilities).toEqual(['x-ignore-shared']);
    expect(stream.pages.some((page) => page.block === 'pc.ram')).toBe(false);
    expect(await verified(await fixture('ignore-shared.ram'))).toBe(512);
  });

  it('describe the same devices in both streams', async () => {
    const [plain, shared] = await Promise.all(['plain.stream', 'ignore-shared.stream'].map(fixture));
    const names = (bytes: Buffer | undefined) => {
      const { devices } = readStream(bytes ?? Buffer.alloc(0)).vmDescription as {
        devices: { name: string }[];
      };
      return devices.map(({ name }) => name);
    };
    expect(names(plain)).toContain('ioapic');
    expect(names(plain)).toEqual(names(shared));
  });
});

describeWithQemu('the fixtures and stock QEMU', { ramBytes: RAM_BYTES, regionBytes: 2 * MIB }, (vms) => {
  it.each([
    { name: 'plain', ignoreShared: false },
    { name: 'ignore-shared', ignoreShared: true },
  ])('loads $name.stream, and its guest goes on', async ({ name, ignoreShared }) => {
    const file = vms.path(`${name}.stream`);
    await writeFile(file, await fixture(`${name}.stream`));
    const ramFile = vms.path('fixture.ram');
    if (ignoreShared) await writeFile(ramFile, await fixture('ignore-shared.ram'));
    const vm = await vms.start({ name, ramFile, incoming: 'defer' });
    await loadStream(vm, { file, ignoreShared });
    const before = await verifyGuestRam(ramFile);
    await vm.execute('cont');
    await vm.waitForPass(before.pass);
    await vm.execute('stop');
    expect((await verifyGuestRam(ramFile)).steps).toBeGreaterThan(before.steps);
  });
});
