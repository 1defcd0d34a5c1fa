/** The destination's end: a waiting QEMU (`-incoming defer`), as rdma-migrate sees it. */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { MigrationError } from '../errors.ts';
import { writeQemuStream } from '../image/index.ts';
import { describeSelf, startTimeOf } from '../owner.ts';
import { type Mapping, mapFile, mapMemfd } from '../ram/mapping.ts';
import type { Arrival, DestinationTarget, RamBlock, ReceivedVm } from '../ram/vm.ts';
import { decodeDescription, describe, type QemuDescription, requireSameVm } from './description.ts';
import { DeviceState } from './device-state.ts';
import { listDevices } from './devices.ts';
import { describeMachine, difference, type QemuMachine } from './machine.ts';
import { findSharedRam, type SharedBlock } from './memory.ts';
import { completion, DEVICE_STATE_ONLY, runState, setCapabilities } from './migration-status.ts';
import { versionOf } from './outgoing.ts';
import { userOf } from './process.ts';
import type { MigrationRecord, Records } from './records.ts';
import { connectTo } from './stream-socket.ts';
import type { WaitingQemu } from './waiting.ts';

const LOAD_TIMEOUT_MS = 60_000;

/** What an {@link IncomingVm} lands in. */
export interface IncomingOptions {
  readonly qemu: WaitingQemu;
  /** A folder for a socket of QEMU's, which QEMU can write to. */
  readonly folder: string;
  readonly records: Records;
  /** Leave the guest stopped once it has arrived. A guest that stood still at the source does so anyway. */
  readonly paused: boolean;
}

/**
 * A waiting QEMU as a target. Shared RAM arrives where QEMU has mapped it. The commit gives QEMU the rest, its private blocks and the
 * device state, as a migration stream, and lets the guest go on: until that has been done the VM is the source's, and a failure ends this QEMU, so that
 * a VM never runs twice. What has been decided is written down.
 */
export class IncomingVm implements DestinationTarget, AsyncDisposable {
  readonly ramIsFresh: boolean;
  readonly #options: IncomingOptions;
  readonly #machine: QemuMachine;
  readonly #shared: readonly SharedBlock[];
  readonly #here: QemuDescription;
  readonly #deviceState = new DeviceState('the source');
  readonly #abort = new AbortController();
  #vm: ReceivedVm | undefined;
  #blocks: RamBlock[] = [];
  #sourceRuns = true;
  #record: MigrationRecord | undefined;
  #expecting: Promise<void> | undefined;
  #committing: Promise<void> | undefined;
  #taken = false;
  /** The guest may have gone on here, and nobody can say. */
  #mayRun = false;
  #ended: Promise<void> | undefined;

  private constructor(
    options: IncomingOptions,
    found: { machine: QemuMachine; shared: readonly SharedBlock[]; here: QemuDescription; fresh: boolean },
  ) {
    this.#options = options;
    this.#machine = found.machine;
    this.#shared = found.shared;
    this.#here = found.here;
    this.ramIsFresh = found.fresh;
  }

  /**
   * @throws MigrationError GUEST_ERROR: this QEMU cannot take a VM so, and what to do; PERMISSION_DENIED: it is another user's; what QMP throws
   */
  static async open(options: IncomingOptions): Promise<IncomingVm> {
    const { qmp, pid } = options.qemu;
    await requireSameUser(pid);
    const state = await runState(qmp);
    if (state !== 'inmigrate') {
      const message = `this QEMU is ${state} and waits for no VM: start it with -incoming defer`;
      throw new MigrationError('GUEST_ERROR', 'configure', message, { details: { state } });
    }
    await setCapabilities(qmp, DEVICE_STATE_ONLY);
    const machine = await describeMachine(qmp);
    const shared = await findSharedRam(qmp, pid, machine.blocks);
    const here = describe(
      { qemu: versionOf(qmp).text, machine, running: false },
      shared,
      await listDevices(qmp),
    );
    const holes = await Promise.all(shared.map(({ path }) => isHole(path)));
    return new IncomingVm(options, { machine, shared, here, fresh: !holes.includes(false) });
  }

  /** The VM is this QEMU's. */
  get taken(): boolean {
    return this.#taken;
  }

  /** QEMU's machine type such as `pc-i440fx-7.2`, as this QEMU says it. */
  get machine(): string {
    return this.#machine.machine;
  }

  /** From here on it is written down what becomes of a migration. @throws MigrationError IO_ERROR */
  expect(migrationId: string): Promise<void> {
    this.#expecting ??= this.#expect(migrationId);
    return this.#expecting;
  }

  async #expect(migrationId: string): Promise<void> {
    const { qemu, records } = this.#options;
    // What was decided once stays decided: the id is only the source's word.
    if ((await records.read(migrationId)) !== undefined)
      throw new MigrationError('IMAGE_EXISTS', 'setup', `migration ${migrationId} has been here before`);
    const record: MigrationRecord = {
      migrationId,
      receiver: await describeSelf(),
      state: 'receiving',
      qemu: { pid: qemu.pid, startTime: await requireStartTime(qemu.pid), qmp: qemu.qmpSocket },
    };
    await records.write(record);
    this.#record = record;
  }

  /** @throws MigrationError BLOCK_MISMATCH: the waiting QEMU is another machine */
  async allocate(vm: ReceivedVm): Promise<readonly RamBlock[]> {
    const differs = difference(vm.layout, this.#machine);
    if (differs !== undefined) {
      const message = `the waiting QEMU is another machine than the source: ${differs}. Start both with the same options`;
      throw new MigrationError('BLOCK_MISMATCH', 'setup', message);
    }
    this.#vm = vm;
    for (const block of vm.layout.blocks) {
      this.#abort.signal.throwIfAborted();
      this.#blocks.push({ ...block, mapping: await this.#map(block.name, block.length) });
    }
    return this.#blocks;
  }

  #map(name: string, length: bigint): Promise<Mapping> {
    const path = this.#shared.find((block) => block.name === name)?.path;
    return path === undefined ? mapMemfd({ name, length }) : mapFile({ path, length, mode: 'write' });
  }

  /** @throws MigrationError PROTOCOL_ERROR, BLOCK_MISMATCH */
  async describe(description: Uint8Array): Promise<void> {
    const source = decodeDescription(description);
    requireSameVm(source, this.#here);
    this.#sourceRuns = source.running;
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.#deviceState.push(bytes);
  }

  /**
   * @throws MigrationError GUEST_ERROR: QEMU did not take the VM, or could not let it go on, and has been ended; TIMEOUT, CANCELLED: the same;
   *   COMMIT_UNKNOWN: it could not be ended, or may have run the guest
   */
  commit(arrival: Arrival): Promise<void> {
    this.#committing = this.#commit(arrival);
    return this.#committing;
  }

  async #commit({ migrationId }: Arrival): Promise<void> {
    const { qemu, paused } = this.#options;
    try {
      await this.expect(migrationId);
      await this.#load();
      this.#abort.signal.throwIfAborted();
      // Whoever ends this process from here on ends no guest: first that, so that it is true of all that is written down as starting.
      await qemu.keep();
      await this.#decide('starting');
      if (!paused && this.#sourceRuns) await this.#letGo();
    } catch (error) {
      if (!this.#mayRun) await this.#giveUp(error);
      throw error;
    }
    this.#taken = true;
    // The guest runs: if this cannot be written down, what is written says that it may.
    await this.#decide('taken').catch(() => {});
  }

  /** @throws MigrationError PEER_ERROR: QEMU refused, and the guest has not run; COMMIT_UNKNOWN: it may have */
  async #letGo(): Promise<void> {
    const { qmp, pid } = this.#options.qemu;
    try {
      await qmp.execute('cont', {}, { timeoutMs: LOAD_TIMEOUT_MS });
    } catch (cause) {
      if (cause instanceof MigrationError && cause.code === 'PEER_ERROR') throw cause;
      if ((await runState(qmp).catch(() => undefined)) === 'running') return;
      this.#mayRun = true;
      const message = `QEMU (process ${pid}) was told to let the guest go on and did not answer: it may have run here. Look at it (query-status) before anything goes on at the source`;
      throw new MigrationError('COMMIT_UNKNOWN', 'commit', message, { cause });
    }
  }

  /** The VM stays the source's, for certain. @throws MigrationError COMMIT_UNKNOWN: this QEMU may run it */
  async #giveUp(why: unknown): Promise<void> {
    try {
      await this.#end();
    } catch (cause) {
      const message = `the guest may run here: ${(cause as Error).message}. Before that, this went wrong: ${why instanceof Error ? why.message : String(why)}`;
      throw new MigrationError('COMMIT_UNKNOWN', 'commit', message, { cause });
    }
  }

  async #decide(state: 'starting' | 'taken' | 'not-taken'): Promise<void> {
    await this.#expecting?.catch(() => {});
    if (this.#record) await this.#options.records.write({ ...this.#record, state });
  }

  #end(): Promise<void> {
    this.#ended ??= this.#options.qemu.end().then(() => this.#decide('not-taken').catch(() => {})); // it follows from its end too
    return this.#ended;
  }

  /** Gives QEMU its stream. @throws MigrationError GUEST_ERROR, TIMEOUT, CANCELLED */
  async #load(): Promise<void> {
    const { qmp } = this.#options.qemu;
    const folder = await mkdtemp(join(this.#options.folder, 'in-'));
    const path = join(folder, 's');
    const events = qmp.events();
    try {
      await qmp.execute('migrate-incoming', { uri: `unix:${path}` });
      const loaded = completion(events);
      loaded.catch(() => undefined);
      await this.#feed(path, loaded);
    } finally {
      await events.return?.();
      await rm(folder, { recursive: true, force: true });
    }
  }

  /** The reason why QEMU stops reading comes from QEMU itself, not from the socket. */
  async #feed(path: string, loaded: Promise<void>): Promise<void> {
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(LOAD_TIMEOUT_MS)]);
    const socket = await connectTo(path);
    const cut = (): void => void socket.destroy();
    signal.addEventListener('abort', cut, { once: true });
    try {
      const ignoreShared = this.#shared.map(({ name }) => name);
      const guestAddresses = Object.fromEntries(
        this.#shared.map(({ name, guestAddress }) => [name, guestAddress]),
      );
      const written = writeQemuStream(this.#received(), socket, { ignoreShared, guestAddresses, signal });
      await Promise.race([written.then(() => loaded), loaded, aborted(signal)]);
    } catch (error) {
      await Promise.race([loaded, aborted(signal)]); // throws what QEMU says
      throw error;
    } finally {
      signal.removeEventListener('abort', cut);
      socket.destroy();
    }
  }

  #received() {
    const { layout, ramSection, before } = this.#vm as ReceivedVm;
    const after = () => this.#deviceState.read();
    return { layout, ramSection, before, blocks: this.#blocks, after };
  }

  /** Ends the QEMU that waits, unless it has the VM. */
  async abort(): Promise<void> {
    this.#abort.abort(new MigrationError('CANCELLED', 'commit', 'loading the VM into QEMU was cancelled'));
    await this.#committing?.catch(() => {});
    if (!this.#taken && !this.#mayRun) await this.#end().catch(() => {});
    await this[Symbol.asyncDispose]();
  }

  /** Unmaps; QEMU keeps its RAM. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#blocks.splice(0).map(({ mapping }) => mapping.close()));
  }
}

/**
 * QEMU makes the socket of its stream in a folder that is this user's alone. Better said before a VM comes than at its commit.
 * @throws MigrationError PERMISSION_DENIED; GUEST_ERROR: it has ended
 */
async function requireSameUser(pid: number): Promise<void> {
  const [theirs, ours] = [(await userOf(pid)).uid, process.geteuid?.()];
  if (theirs === ours) return;
  const message = `QEMU (process ${pid}) runs as user ${theirs} and this as user ${ours}: run this as the user that runs QEMU (sudo -u '#${theirs}'), with a --state-dir of that user's`;
  throw new MigrationError('PERMISSION_DENIED', 'configure', message, { details: { pid, uid: theirs } });
}

/** @throws MigrationError GUEST_ERROR: it has ended */
async function requireStartTime(pid: number): Promise<string> {
  const startTime = await startTimeOf(pid);
  if (startTime !== undefined) return startTime;
  throw new MigrationError('GUEST_ERROR', 'setup', `process ${pid} has ended`);
}

/** A waiting QEMU has not written to its RAM yet, but a RAM file may have been used before. */
async function isHole(path: string): Promise<boolean> {
  return (await stat(path)).blocks === 0;
}

function aborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    const fail = (): void => {
      const late = signal.reason instanceof DOMException && signal.reason.name === 'TimeoutError';
      const message = late
        ? `QEMU has not loaded the device state within ${LOAD_TIMEOUT_MS} ms`
        : 'loading the device state into QEMU was cancelled';
      reject(new MigrationError(late ? 'TIMEOUT' : 'CANCELLED', 'commit', message));
    };
    if (signal.aborted) return fail();
    signal.addEventListener('abort', fail, { once: true });
  });
}
