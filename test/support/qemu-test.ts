import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe } from 'vitest';
import { buildGuest, type GuestBuildOptions } from '../../examples/guest/build.ts';
import { Qemu, type QemuOptions, qemuMissing } from '../../examples/qemu/qemu.ts';

export const MIB = 2 ** 20;

/** What a test of real VMs works with: its own folder, the guest, and VMs that end with the test. */
export interface VmFixture {
  readonly folder: string;
  readonly kernel: string;
  path(name: string): string;
  start(options: Pick<QemuOptions, 'name' | 'incoming' | 'paused'> & { ramFile?: string }): Promise<Qemu>;
}

/** A `describe` that needs QEMU: where it is not installed the reason is printed and part of the report. */
export function describeWithQemu(
  title: string,
  vm: { readonly ramBytes: number } & Pick<GuestBuildOptions, 'regionBytes'>,
  tests: (fixture: VmFixture) => void,
): void {
  const missing = qemuMissing();
  if (missing !== undefined) {
    console.warn(`NOT RUN: ${title}: ${missing}`);
    describe.skip(`${title} (not run: ${missing})`, () => tests(new Fixture(vm.ramBytes)));
    return;
  }
  describe(title, () => {
    const fixture = new Fixture(vm.ramBytes);
    beforeAll(() => fixture.open(vm));
    afterEach(() => fixture.stopAll());
    afterAll(() => fixture.remove());
    tests(fixture);
  });
}

class Fixture implements VmFixture {
  folder = '';
  readonly #ramBytes: number;
  readonly #started: Qemu[] = [];

  constructor(ramBytes: number) {
    this.#ramBytes = ramBytes;
  }

  get kernel(): string {
    return this.path('guest');
  }

  path(name: string): string {
    return join(this.folder, name);
  }

  async open(guest: Pick<GuestBuildOptions, 'regionBytes'>): Promise<void> {
    this.folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-qemu-'));
    await buildGuest({ ...guest, output: this.kernel });
  }

  async start({
    name,
    ramFile = this.path(`${name}.ram`),
    ...rest
  }: Pick<QemuOptions, 'name' | 'incoming' | 'paused'> & { ramFile?: string }): Promise<Qemu> {
    const { folder, kernel } = this;
    const qemu = await Qemu.start({ name, folder, kernel, ramFile, ramBytes: this.#ramBytes, ...rest });
    this.#started.push(qemu);
    return qemu;
  }

  async stopAll(): Promise<void> {
    for (const qemu of this.#started.splice(0)) {
      await qemu.close();
      await rm(qemu.ramFile, { force: true });
    }
  }

  async remove(): Promise<void> {
    await this.stopAll();
    if (this.folder !== '') await rm(this.folder, { recursive: true, force: true });
  }
}
