/** One way between two hosts: a tunnel for the guest, and one for what its libvirtd have to say to each other, as KubeVirt's proxy has them. */
import { setTimeout as delay } from 'node:timers/promises';
import { DOMAIN } from './guest.ts';
import type { Host } from './host.ts';
import type { Ended, Process } from './process.ts';
import { type End, Tunnel } from './tunnel.ts';

const FOLDER = '/run/rdma-migrate';
const MIGRATION_MS = 180_000;
const POLL_MS = 50;
const GUEST_PORT = 4444;
const LIBVIRT_PORT = 4445;

export type Carried = 'guest' | 'libvirt';

export class Route implements AsyncDisposable {
  readonly from: Host;
  readonly to: Host;
  readonly #options: readonly string[];
  readonly #tunnels = new Map<Carried, Tunnel>();

  /** `options`: of all ends of the tunnels. */
  static async open(from: Host, to: Host, options: readonly string[] = []): Promise<Route> {
    const route = new Route(from, to, options);
    try {
      // At the destination QEMU makes its socket itself, and it is not root.
      for (const host of [from, to]) {
        await host.must('install', '-d', '-m', '750', '-o', 'libvirt-qemu', '-g', 'root', FOLDER);
      }
      await route.reopen('guest');
      await route.reopen('libvirt');
    } catch (error) {
      await route[Symbol.asyncDispose]();
      throw error;
    }
    return route;
  }

  private constructor(from: Host, to: Host, options: readonly string[]) {
    this.from = from;
    this.to = to;
    this.#options = options;
  }

  /** libvirt has one path for both hosts. */
  get #guestSocket(): string {
    return `${FOLDER}/to-${this.to.name}.sock`;
  }

  get #libvirtSocket(): string {
    return `${FOLDER}/libvirt-${this.to.name}.sock`;
  }

  /** A new tunnel in place of one that has gone, or the first one. */
  async reopen(what: Carried): Promise<void> {
    await this.#tunnels.get(what)?.[Symbol.asyncDispose]();
    const { from, to } = this;
    const options = this.#options;
    const listen = what === 'guest' ? this.#guestSocket : this.#libvirtSocket;
    const connect = what === 'guest' ? this.#guestSocket : '/run/libvirt/libvirt-sock';
    const port = what === 'guest' ? GUEST_PORT : LIBVIRT_PORT;
    this.#tunnels.set(what, await Tunnel.open({ from, to, port, listen, connect, options }));
  }

  tunnel(what: Carried): Tunnel {
    return this.#tunnels.get(what) as Tunnel;
  }

  kill(what: Carried, end: End): Promise<void> {
    return this.tunnel(what).kill(end);
  }

  #arguments(options: readonly string[]): string[] {
    const far = `qemu+unix:///system?socket=${this.#libvirtSocket}`;
    const uris = ['--desturi', far, '--migrateuri', `unix:${this.#guestSocket}`];
    return ['virsh', 'migrate', '--live', '--domain', DOMAIN, ...uris, ...options];
  }

  /** @throws Error it fails; the guest has gone another way than through the tunnel; or it is at the source too */
  async migrate(options: readonly string[], least: { streams: number; bytes: number }): Promise<void> {
    const before = this.tunnel('guest').carried.length;
    const { code, stderr } = await this.from.run(MIGRATION_MS, ...this.#arguments(options));
    if (code !== 0) throw new Error(`virsh migrate ${options.join(' ')} ended with ${code}: ${stderr}`);
    await this.#carries(before, least);
    await requireNone(this.from);
  }

  async #carries(before: number, { streams, bytes }: { streams: number; bytes: number }): Promise<void> {
    const deadline = performance.now() + MIGRATION_MS;
    for (;;) {
      const carried = this.tunnel('guest').carried.slice(before);
      const sum = carried.reduce((all, one) => all + one, 0);
      if (carried.length >= streams && sum >= bytes) return;
      if (performance.now() > deadline)
        throw new Error(`the tunnel has carried ${sum} bytes in ${carried.length} streams`);
      await delay(POLL_MS);
    }
  }

  /** Begins one that does not end by itself, and waits until RAM is under way. */
  async beginSlowly(options: readonly string[] = []): Promise<Process> {
    const migration = this.from.start(...this.#arguments(['--bandwidth', '1', ...options]));
    const deadline = performance.now() + MIGRATION_MS;
    for (;;) {
      const { stdout } = await this.from.run(MIGRATION_MS, 'virsh', 'domjobinfo', DOMAIN);
      if (/^Memory processed: +[1-9]/m.test(stdout)) return migration;
      if (performance.now() > deadline) throw new Error(`no RAM is under way: ${stdout}`);
      await delay(POLL_MS);
    }
  }

  /** What has begun slowly goes on behind the guest, which runs at the destination from now on. @throws Error it fails */
  async switchToPostcopy(migration: Process): Promise<void> {
    await this.from.virsh('migrate-postcopy', DOMAIN);
    const { code, stderr } = await endOf(migration);
    if (code !== 0) throw new Error(`post-copy ended with ${code}: ${stderr}`);
    await requireNone(this.from);
  }

  /** The migration has failed and libvirt says so, and the destination has thrown its part away. @throws Error otherwise */
  async fails(migration: Process): Promise<string> {
    const ended = await endOf(migration);
    if (ended.code === 0) throw new Error('virsh migrate ended as if nothing had happened');
    await requireNone(this.to);
    return ended.stderr.trim();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([...this.#tunnels.values()].map((tunnel) => tunnel[Symbol.asyncDispose]()));
  }
}

async function endOf(migration: Process): Promise<Ended> {
  const tooLong = delay(MIGRATION_MS, undefined, { ref: false });
  const ended = await Promise.race([migration.ended, tooLong]);
  if (ended) return ended;
  throw new Error('virsh migrate did not end');
}

/** A guest runs on one host only. */
async function requireNone(host: Host): Promise<void> {
  const deadline = performance.now() + MIGRATION_MS;
  for (;;) {
    const names = (await host.virsh('list', '--all', '--name')).trim();
    if (names === '') return;
    if (performance.now() > deadline) throw new Error(`${host.name} has a guest still: ${names}`);
    await delay(POLL_MS);
  }
}
