/** The guest of examples/guest as a domain of libvirt, whose RAM is its QEMU's own: it is read through the monitor. */
import { open, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { PAGE_SIZE, REGION_BASE, STATE_ADDRESS } from '../../examples/guest/layout.ts';
import { type GuestState, readGuestState, verifyGuestRam } from '../../examples/guest/verify.ts';
import type { Host } from './host.ts';

export const MIB = 2 ** 20;
export const REGION_BYTES = 8 * MIB;
const RAM_MIB = 128;
const ROUND_MS = 180_000;
const POLL_MS = 50;
export const DOMAIN = 'guest';

const domainXml = (kernel: string): string => `<domain type="qemu">
  <name>${DOMAIN}</name>
  <uuid>5a3d7d0e-55ab-4d0c-8a51-0f3a6a1f0a11</uuid>
  <memory unit="MiB">${RAM_MIB}</memory>
  <vcpu>1</vcpu>
  <os><type arch="x86_64" machine="pc">hvm</type><kernel>${kernel}</kernel></os>
  <devices><serial type="null"/><memballoon model="none"/></devices>
</domain>
`;

export class Guest {
  readonly #file: string;
  /** Page writes that it has been seen to have done: it never goes back, whatever host it runs on. */
  #steps = 0n;

  private constructor(work: string) {
    this.#file = join(work, 'ram');
  }

  /** Starts it, and waits until it has written all of its memory. */
  static async start(host: Host, kernel: string, work: string): Promise<Guest> {
    const file = join(work, 'domain.xml');
    await writeFile(file, domainXml(kernel));
    await host.virsh('create', file);
    const guest = new Guest(work);
    await guest.#until(host, 'to start', (state) => state !== undefined && state.pass > 0n);
    return guest;
  }

  /**
   * It runs on that host, has all of its memory, and has not forgotten a step: lets it come back to each of its pages, which it checks itself, then stops
   * it, checks every page from outside, and lets it go on.
   * @throws Error
   */
  async check(host: Host): Promise<void> {
    const state = (await host.virsh('domstate', DOMAIN)).trim();
    if (state !== 'running') throw new Error(`the guest is ${state} on ${host.name}`);
    const before = await this.#state(host);
    if (before === undefined || before.steps < this.#steps) throw new Error(`the guest has started anew`);
    const wanted = before.steps + BigInt(2 * before.pages);
    await this.#until(host, 'to come back to its pages', (now) => now !== undefined && now.steps >= wanted);
    await host.virsh('suspend', DOMAIN);
    await this.#save(host, REGION_BASE + REGION_BYTES);
    this.#steps = (await verifyGuestRam(this.#file)).steps;
    await host.virsh('resume', DOMAIN);
  }

  async #until(host: Host, what: string, done: (state: GuestState | undefined) => boolean): Promise<void> {
    const deadline = performance.now() + ROUND_MS;
    while (!done(await this.#state(host))) {
      if (performance.now() > deadline)
        throw new Error(`waited in vain for the guest ${what} on ${host.name}`);
      await delay(POLL_MS);
    }
  }

  /** undefined: it has not started yet. */
  async #state(host: Host): Promise<GuestState | undefined> {
    await this.#save(host, STATE_ADDRESS + PAGE_SIZE);
    const file = await open(this.#file, 'r');
    try {
      return await readGuestState(file).catch(() => undefined);
    } finally {
      await file.close();
    }
  }

  /** The first bytes of its memory, into the file. */
  async #save(host: Host, size: number): Promise<void> {
    await rm(this.#file, { force: true });
    const filename = '/var/lib/libvirt/qemu/guest.memory';
    const command = { execute: 'pmemsave', arguments: { val: 0, size, filename } };
    await host.virsh('qemu-monitor-command', DOMAIN, JSON.stringify(command));
    await host.must('cp', filename, this.#file);
  }
}
