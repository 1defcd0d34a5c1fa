/** The machines of one run: QEMUs one after the other, into each of which the guest moves, in a folder that is removed when the run ends. */
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { buildGuest } from '../guest/build.ts';
import { Qemu } from '../qemu/qemu.ts';

const RAM = 'pc.ram';

export interface BenchOptions {
  readonly folder: string;
  readonly ramBytes: number;
  /** How much of it the guest keeps rewriting. */
  readonly regionBytes: number;
  /** Ends every QEMU. */
  readonly signal: AbortSignal;
  /** Default: qemu-system-x86_64 on the PATH. */
  readonly executable?: string;
}

/** A QEMU and how the ends of a migration reach it. */
export interface Vm {
  readonly qemu: Qemu;
  readonly qmpSocket: string;
  readonly ramFiles: Readonly<Record<string, string>>;
}

export class Bench implements AsyncDisposable {
  readonly options: BenchOptions;
  readonly #vms = new Set<Vm>();
  readonly #serialFiles: string[] = [];
  readonly #onAbort = (): void => {
    for (const { qemu } of this.#vms) void qemu.close();
  };
  #count = 0;

  private constructor(options: BenchOptions) {
    this.options = options;
    // So that every wait for a VM ends at once.
    options.signal.addEventListener('abort', this.#onAbort, { once: true });
  }

  static async open(options: BenchOptions): Promise<Bench> {
    const bench = new Bench(options);
    await buildGuest({ output: bench.at('guest'), regionBytes: options.regionBytes });
    return bench;
  }

  at(name: string): string {
    return join(this.options.folder, name);
  }

  /** Starts a QEMU: the first one boots the guest, the others wait for it. */
  async start(role: 'boots' | 'waits', executable = this.options.executable): Promise<Vm> {
    const { folder, ramBytes, signal } = this.options;
    signal.throwIfAborted();
    this.#count += 1;
    const name = `vm-${this.#count}`;
    const [ramFile, qmpSocket] = [this.at(`${name}.ram`), this.at(`${name}.qmp`)];
    const qemu = await Qemu.start({
      ...{ name, folder, ramFile, ramBytes, qmpSocket, kernel: this.at('guest') },
      ...(role === 'waits' ? { incoming: 'defer' } : {}),
      ...(executable === undefined ? {} : { executable }),
    });
    const vm = { qemu, qmpSocket, ramFiles: { [RAM]: ramFile } };
    this.#vms.add(vm);
    this.#serialFiles.push(qemu.serialFile);
    if (signal.aborted) await this.end(vm);
    signal.throwIfAborted();
    return vm;
  }

  /** Ends a QEMU and frees its RAM; its serial log stays. */
  async end(vm: Vm): Promise<void> {
    this.#vms.delete(vm);
    await vm.qemu.close();
    await Promise.all([vm.qemu.ramFile, vm.qmpSocket].map((path) => rm(path, { force: true })));
  }

  /** What the guest has printed, one text for each QEMU, in the order of their start. */
  serials(): Promise<string[]> {
    return Promise.all(this.#serialFiles.map((path) => readFile(path, 'latin1')));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.options.signal.removeEventListener('abort', this.#onAbort);
    await Promise.all([...this.#vms].map((vm) => this.end(vm)));
  }
}
