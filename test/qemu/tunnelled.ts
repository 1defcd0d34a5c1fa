/** Two stock QEMUs with private RAM and the command at both ends of a tunnel between them. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parsePasses } from '../../examples/qemu/qemu.ts';
import type { CommandFolder, RunningCommand } from '../cli/command.ts';
import { MIB } from '../support/qemu-test.ts';
import { BareVm } from './bare-vm.ts';

const LIMIT_MS = 120_000;
const POLL_MS = 20;
/** Slower than the guest writes: such a migration does not end by itself. */
const SLOW = 4 * MIB;

let count = 0;

export interface Wanted {
  /** Of both QEMUs. */
  readonly capabilities?: readonly string[];
  readonly parameters?: Readonly<Record<string, number>>;
  /** Of both ends of the tunnel. */
  readonly options?: readonly string[];
}

export class Tunnelled implements AsyncDisposable {
  readonly source: BareVm;
  readonly destination: BareVm;
  readonly ends: { readonly source: RunningCommand; readonly destination: RunningCommand };
  /** Of the far end. */
  readonly uri: string;
  /** Where the source QEMU migrates to, and the destination QEMU waits. */
  readonly from: string;
  readonly to: string;
  readonly #kernel: string;
  readonly #folder: string;

  static async start(
    kernel: string,
    { work, start }: CommandFolder,
    { capabilities = [], options = [], parameters = {} }: Wanted = {},
  ): Promise<Tunnelled> {
    const folder = join(work, `t${++count}`);
    const [from, to] = [`${folder}-m`, `${folder}-in`];
    const far = start('tunnel', 'rdma:127.0.0.1:0', '--to', `unix:${to}`, ...options);
    const uri = (await far.waitForOutput(/rdma:127\.0\.0\.1:\d+/))[0];
    const near = start('tunnel', '--listen', `unix:${from}`, uri, ...options);
    await near.waitForOutput(/listening at/);
    const source = await BareVm.start(guest(kernel, `${folder}-source`));
    const pair = new Tunnelled(folder, kernel, { source: near, destination: far }, uri, source, {
      from: `unix:${from}`,
      to: `unix:${to}`,
      destination: await BareVm.start([...guest(kernel, `${folder}-destination`), '-incoming', 'defer']),
    });
    for (const vm of [pair.source, pair.destination]) {
      await vm.switchOn(capabilities);
      await vm.execute('migrate-set-parameters', parameters);
    }
    await pair.destination.execute('migrate-incoming', { uri: pair.to });
    await pair.passes('source');
    return pair;
  }

  private constructor(
    folder: string,
    kernel: string,
    ends: Tunnelled['ends'],
    uri: string,
    source: BareVm,
    { from, to, destination }: { from: string; to: string; destination: BareVm },
  ) {
    this.#folder = folder;
    this.#kernel = kernel;
    this.ends = ends;
    this.uri = uri;
    this.source = source;
    this.destination = destination;
    this.from = from;
    this.to = to;
  }

  /** Another destination, after the first one has failed. */
  async another(name: string): Promise<BareVm> {
    const vm = await BareVm.start([...guest(this.#kernel, `${this.#folder}-${name}`), '-incoming', 'defer']);
    await vm.execute('migrate-incoming', { uri: this.to });
    return vm;
  }

  /** One that goes on until something is done about it. */
  async beginSlowly(): Promise<void> {
    await this.source.execute('migrate-set-parameters', { 'max-bandwidth': SLOW });
    await this.source.execute('migrate', { uri: this.from });
    await until('RAM to be under way', async () => {
      const info = (await this.source.execute('query-migrate')) as { ram?: { transferred?: number } };
      return (info.ram?.transferred ?? 0) > MIB;
    });
  }

  /** How the source's migration has ended. */
  async ended(): Promise<string | undefined> {
    return (await this.source.migrated(AbortSignal.timeout(LIMIT_MS))).status;
  }

  /** The guest's next pass after those that it has said, at that VM. It checks all that it has written. */
  async passes(name: string): Promise<void> {
    const log = async () =>
      parsePasses(await readFile(`${this.#folder}-${name}`, 'latin1').catch(() => '')).length;
    const before = await log();
    await until(`the guest to run at the ${name}`, async () => (await log()) > before);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([this.source[Symbol.asyncDispose](), this.destination[Symbol.asyncDispose]()]);
    for (const end of Object.values(this.ends)) {
      end.kill('SIGKILL');
      await end.ended;
    }
  }
}

const guest = (kernel: string, serial: string): string[] => [
  ...['-kernel', kernel, '-chardev', `file,id=serial,path=${serial}`, '-serial', 'chardev:serial'],
];

async function until(what: string, done: () => Promise<boolean>): Promise<void> {
  const deadline = performance.now() + LIMIT_MS;
  while (!(await done())) {
    if (performance.now() > deadline) throw new Error(`waited in vain for ${what}`);
    await delay(POLL_MS);
  }
}
