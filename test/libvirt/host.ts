/**
 * A host for libvirt on this machine: namespaces of its own for mounts, network and processes, and a libvirtd in them. Whatever is started in it ends with
 * it, and it ends with this process, however that ends.
 */
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { type Ended, must, Process, run } from './process.ts';

const SCRIPT = fileURLToPath(new URL('../test/libvirt/host.sh', import.meta.resolve('rdma-migrate')));
const UNSHARE = ['--mount', '--net', '--pid', '--fork', '--kill-child', '--mount-proc'];
const START_MS = 120_000;
const POLL_MS = 100;
const TOOL_MS = 120_000;

export interface HostFacts {
  readonly name: string;
  /** Of the host, as libvirt knows it. */
  readonly uuid: string;
  readonly address: string;
  /** Its QEMUs are root's, with root's capabilities. */
  readonly privileged?: boolean;
}

const PRIVILEGED = 'user = "root"\nclear_emulator_capabilities = 0';

export class Host implements AsyncDisposable {
  readonly name: string;
  readonly address: string;
  readonly #log: string;
  readonly #root: Process;

  /** Two hosts with a cable between them, whose libvirtd answer. */
  static async pair(facts: readonly [HostFacts, HostFacts], work: string): Promise<readonly [Host, Host]> {
    const [a, b] = [new Host(facts[0], work), new Host(facts[1], work)];
    try {
      await Promise.all([a.#root.says(/ready/, START_MS), b.#root.says(/ready/, START_MS)]);
      const peer = ['peer', 'name', 'eth0', 'netns', String(b.#root.pid)];
      await a.#ip('link', 'add', 'eth0', 'type', 'veth', ...peer);
      for (const host of [a, b]) {
        await host.#ip('link', 'set', 'lo', 'up');
        await host.#ip('address', 'add', `${host.address}/24`, 'dev', 'eth0');
        await host.#ip('link', 'set', 'eth0', 'up');
      }
      await Promise.all([a.#answers(), b.#answers()]);
    } catch (error) {
      await Promise.all([a[Symbol.asyncDispose](), b[Symbol.asyncDispose]()]);
      throw error;
    }
    return [a, b];
  }

  private constructor({ name, uuid, address, privileged }: HostFacts, work: string) {
    this.name = name;
    this.address = address;
    this.#log = join(work, `libvirtd-${name}`);
    this.#root = new Process('unshare', [
      ...UNSHARE,
      'bash',
      SCRIPT,
      uuid,
      this.#log,
      privileged ? PRIVILEGED : '',
    ]);
  }

  /** In its network alone, with this machine's process ids. */
  #ip(...args: readonly string[]): Promise<string> {
    return must('nsenter', [`--net=/proc/${this.#root.pid}/ns/net`, 'ip', ...args], TOOL_MS);
  }

  async #answers(): Promise<void> {
    const deadline = performance.now() + START_MS;
    for (;;) {
      const { code, stderr } = await run(...this.#inside('virsh', 'version'), TOOL_MS);
      if (code === 0) return;
      if (performance.now() > deadline) {
        throw new Error(`libvirtd of ${this.name} does not answer: ${stderr}${await this.logs()}`);
      }
      await delay(POLL_MS);
    }
  }

  #inside(...command: readonly string[]): readonly [string, readonly string[]] {
    const folder = `/proc/${this.#root.pid}/ns`;
    const namespaces = [`--mount=${folder}/mnt`, `--net=${folder}/net`, `--pid=${folder}/pid_for_children`];
    return ['nsenter', [...namespaces, '--', ...command]];
  }

  start(...command: readonly string[]): Process {
    return new Process(...this.#inside(...command));
  }

  /** Runs it to its end. @throws Error it takes too long */
  run(timeoutMs: number, ...command: readonly string[]): Promise<Ended> {
    return run(...this.#inside(...command), timeoutMs);
  }

  /** @throws Error it fails, or takes too long */
  must(...command: readonly string[]): Promise<string> {
    return must(...this.#inside(...command), TOOL_MS);
  }

  /** @throws Error as {@link must} */
  virsh(...args: readonly string[]): Promise<string> {
    return this.must('virsh', ...args);
  }

  /** The last that its libvirtd and its QEMUs have said. */
  async logs(): Promise<string> {
    const { stdout } = await this.run(
      TOOL_MS,
      'sh',
      '-c',
      `tail -n 20 ${this.#log} /var/log/libvirt/qemu/*.log`,
    );
    return `--- host ${this.name}\n${stdout}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#root.kill();
    await this.#root.ended;
  }
}
