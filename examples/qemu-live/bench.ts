/** The machines of one run: QEMUs one after the other, into each of which the guest moves, in a folder that is removed when the run ends. */
import { execFile, spawn } from 'node:child_process';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { promisify } from 'node:util';
import { MigrationError } from 'rdma-migrate';
import { buildGuest } from '../guest/build.ts';
import { CommandProcess } from './command.ts';
import { type MachineOptions, machineArguments, ramFilesOf } from './machine.ts';
import { Vm } from './vm.ts';

const START_TIMEOUT_MS = 30_000;
const POLL_MS = 20;
const DISK_SIZE = '64M';

export interface BenchOptions extends MachineOptions {
  /** How much of it the guest keeps rewriting. */
  readonly regionBytes: number;
  /** Ends every QEMU and every command. */
  readonly signal: AbortSignal;
}

/** `rdma-migrate qemu receive`, listening, and the QEMU that it has started. */
export interface Receiver {
  readonly command: CommandProcess;
  readonly uri: string;
  readonly vm: Vm;
}

export class Bench implements AsyncDisposable {
  readonly options: BenchOptions;
  readonly #vms = new Set<Vm>();
  readonly #commands = new Set<CommandProcess>();
  readonly #serialFiles: string[] = [];
  readonly #onAbort = (): void => {
    for (const command of this.#commands) command.kill('SIGKILL');
    for (const vm of this.#vms) vm.kill();
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
    if (options.disk)
      await promisify(execFile)('qemu-img', [
        'create',
        '-q',
        '-f',
        'qcow2',
        bench.at('disk.qcow2'),
        DISK_SIZE,
      ]);
    return bench;
  }

  at(name: string): string {
    return join(this.options.folder, name);
  }

  /** Where the commands keep what became of migrations. */
  get stateDir(): string {
    return this.at('s');
  }

  #next(): { name: string; args: string[]; files: { ramFiles: string[]; serialFile: string } } {
    this.options.signal.throwIfAborted();
    this.#count += 1;
    const name = `vm-${this.#count}`;
    const serialFile = this.at(`${name}.serial`);
    this.#serialFiles.push(serialFile);
    return {
      name,
      args: machineArguments(this.options, name),
      files: { ramFiles: ramFilesOf(this.options, name), serialFile },
    };
  }

  /** Starts a QEMU: the first one boots the guest; others may wait for it without a command of ours. */
  async boot(role: 'boots' | 'waits' = 'boots'): Promise<Vm> {
    const { name, args, files } = this.#next();
    const qmpSocket = this.at(`${name}.qmp`);
    const waiting = role === 'waits' ? ['-incoming', 'defer'] : [];
    const monitor = ['-qmp', `unix:${qmpSocket},server=on,wait=off`];
    const child = spawn(this.options.executable, [...args, ...monitor, ...waiting], {
      stdio: ['ignore', 'ignore', 'inherit'],
    });
    let failed: Error | undefined;
    child.once('error', (error) => {
      failed = error;
    });
    const vm = new Vm({ name, pid: child.pid ?? 0, qmpSocket, ...files });
    this.#vms.add(vm);
    const deadline = performance.now() + START_TIMEOUT_MS;
    const wanted = role === 'waits' ? 'inmigrate' : 'running';
    while ((await vm.status().catch(() => undefined)) !== wanted) {
      if (failed || child.exitCode !== null || performance.now() > deadline)
        throw new MigrationError(
          'IO_ERROR',
          'setup',
          `QEMU did not start: ${failed?.message ?? child.exitCode}`,
        );
      await delay(POLL_MS);
    }
    return vm;
  }

  /** Starts the other end: `rdma-migrate qemu receive` with a QEMU like the first. */
  async receive(
    options: readonly string[] = [],
    changed: (args: string[]) => string[] = (args) => args,
  ): Promise<Receiver> {
    const { name, args, files } = this.#next();
    const uri = `rdma:${this.options.listen}:0`;
    const ours = ['qemu', 'receive', uri, '--state-dir', this.stateDir, ...options];
    const command = this.run([...ours, '--', this.options.executable, ...changed(args)]);
    const { pid, qmp } = await command.event('started');
    const vm = new Vm({ name, pid: Number(pid), qmpSocket: String(qmp), ...files });
    this.#vms.add(vm);
    return { command, uri: String((await command.event('listening')).uri), vm };
  }

  /** The same, with a QEMU that waits already. */
  async receiveInto(vm: Vm, options: readonly string[] = []): Promise<Receiver> {
    const ours = ['qemu', 'receive', `rdma:${this.options.listen}:0`, '--state-dir', this.stateDir];
    const command = this.run([...ours, '--qmp', vm.qmpSocket, ...options]);
    return { command, uri: String((await command.event('listening')).uri), vm };
  }

  /** Starts a command of rdma-migrate. */
  run(args: readonly string[]): CommandProcess {
    const command = new CommandProcess(args);
    this.#commands.add(command);
    command.ended.finally(() => this.#commands.delete(command));
    return command;
  }

  /** Ends a QEMU and frees its RAM; its serial log stays. */
  async end(vm: Vm): Promise<void> {
    this.#vms.delete(vm);
    await vm.end();
    await Promise.all([...vm.ramFiles, vm.qmpSocket].map((path) => rm(path, { force: true })));
  }

  /** What the guest has printed, one text for each QEMU, in the order of their start. */
  serials(): Promise<string[]> {
    return Promise.all(this.#serialFiles.map((path) => readFile(path, 'latin1').catch(() => '')));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.options.signal.removeEventListener('abort', this.#onAbort);
    const commands = [...this.#commands];
    for (const command of commands) command.kill('SIGKILL');
    await Promise.all(commands.map(({ ended }) => ended));
    await Promise.all([...this.#vms].map((vm) => this.end(vm)));
  }
}
