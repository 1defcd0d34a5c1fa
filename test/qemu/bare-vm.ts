/** A stock QEMU without a guest: what it sends needs no more than its firmware, and it starts in a moment. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import type { Duplex } from 'node:stream';
import { setTimeout as delay } from 'node:timers/promises';
import { QmpClient } from '../../lib/qmp/client.ts';

/** Another QEMU than the one in PATH, such as that of another release: its path. */
export const EXECUTABLE = process.env.RDMA_MIGRATE_TEST_QEMU ?? 'qemu-system-x86_64';

const QMP_FD = 3;
const POLL_MS = 10;

const ARGUMENTS = [
  ...[
    '-nodefaults',
    '-no-user-config',
    '-display',
    'none',
    '-accel',
    'tcg',
    '-machine',
    'pc',
    '-m',
    '64,maxmem=256M,slots=2',
  ],
  ...['-uuid', '6d0d2b53-3f0c-4f7e-9d33-2b7c7f6b1a55'],
  ...['-chardev', `socket,id=qmp,fd=${QMP_FD}`, '-mon', 'chardev=qmp,mode=control'],
];

/** QMP's `query-migrate`, as far as it counts here. */
interface MigrationInfo {
  readonly status?: string;
  readonly 'error-desc'?: string;
}

export class BareVm implements AsyncDisposable {
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  #qmp: QmpClient | undefined;

  private constructor(more: readonly string[]) {
    this.#child = spawn(EXECUTABLE, [...ARGUMENTS, ...more], {
      stdio: ['ignore', 'ignore', 'ignore', 'pipe'],
    });
    this.#exited = once(this.#child, 'exit');
  }

  /** `more`: further arguments. */
  static async start(more: readonly string[] = []): Promise<BareVm> {
    const vm = new BareVm(more);
    try {
      vm.#qmp = await QmpClient.connect({ socket: vm.#child.stdio[QMP_FD] as Duplex });
      return vm;
    } catch (error) {
      await vm[Symbol.asyncDispose]();
      throw error;
    }
  }

  get version(): string {
    const { major, minor } = (this.#qmp as QmpClient).greeting.version;
    return `${major}.${minor}`;
  }

  execute(command: string, args: Readonly<Record<string, unknown>> = {}): Promise<unknown> {
    return (this.#qmp as QmpClient).execute(command, args);
  }

  async capabilities(): Promise<string[]> {
    const list = (await this.execute('query-migrate-capabilities')) as { capability: string }[];
    return list.map(({ capability }) => capability);
  }

  async switchOn(capabilities: readonly string[]): Promise<void> {
    const list = capabilities.map((capability) => ({ capability, state: true }));
    await this.execute('migrate-set-capabilities', { capabilities: list });
  }

  /** Until the migration has ended, or the signal is aborted; it is told to go on where it waits for that. */
  async migrated(signal: AbortSignal): Promise<MigrationInfo> {
    for (;;) {
      const info = (await this.execute('query-migrate')) as MigrationInfo;
      if (['completed', 'failed', 'cancelled'].includes(info.status ?? '') || signal.aborted) return info;
      if (info.status === 'pre-switchover') {
        await this.execute('migrate-continue', { state: 'pre-switchover' }).catch(() => undefined);
      }
      await delay(POLL_MS);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#qmp?.close();
    this.#child.kill('SIGKILL');
    await this.#exited;
  }
}
