/** The source's end: a QEMU with a running guest, as rdma-migrate sees it. */
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { MigrationError } from '../errors.ts';
import { streamHeader } from '../protocol/framing.ts';
import type { QmpClient } from '../qmp/client.ts';
import { type Mapping, mapFile, mapMemfd } from '../ram/mapping.ts';
import type { DirtyTracker } from '../ram/tracker.ts';
import type { Guest, RamBlock, ReceivedVm, SourceVm, VmLayout } from '../ram/vm.ts';
import { describe, encodeDescription, type QemuDescription } from './description.ts';
import { DeviceState } from './device-state.ts';
import { listDevices } from './devices.ts';
import { describeMachine, difference, type QemuMachine } from './machine.ts';
import { findSharedRam, type SharedBlock } from './memory.ts';
import {
  DEVICE_STATE_ONLY,
  isOver,
  queryMigrate,
  runState,
  setBandwidth,
  setCapabilities,
  waitUntilOver,
} from './migration-status.ts';
import { readOwnStream } from './own-stream.ts';
import { userOf } from './process.ts';
import { StreamListener } from './stream-socket.ts';
import { DutyCycle } from './throttle.ts';
import { pickTracker, type TrackerWish } from './tracker.ts';

const QEMU_TIMEOUT_MS = 30_000;
/** How long the other QEMU may take to let go of the locks of disks. */
const LOCKS_TIMEOUT_MS = 15_000;
const RETRY_MS = 100;
/** Distinguishes the ram section from the sections of the device state, which QEMU counts from 0. */
const RAM_SECTION = { sectionId: 0x7fff_0000, instanceId: 0 } as const;
/** Stopping, QEMU's stream of device state and loading it at the other end, as measured on an otherwise idle host. */
const SWITCHOVER_MS = 60;
/** QEMU's own stream goes through a local socket while the guest stands still: its limit, for networks, is lifted. */
const LOCAL_BANDWIDTH = 64 * 2 ** 30;
/** Where the guest's RAM is the guest's: a QEMU that is none of these has been moved, or waits for a VM. */
const MOVABLE = ['running', 'paused', 'suspended', 'watchdog', 'io-error'];

/** Which QEMU's VM is moved, and how. */
export interface OutgoingOptions {
  readonly qmp: QmpClient;
  /** The process of that QEMU. */
  readonly pid: number;
  /** How the guest's writes are detected. Default `auto`. */
  readonly tracker?: TrackerWish;
  /** Milliseconds of the downtime that are not RAM. Default 60. */
  readonly switchoverMs?: number;
}

interface Parts {
  readonly machine: QemuMachine;
  /** QMP's run state when the VM was found. */
  readonly state: string;
  readonly running: boolean;
  readonly shared: readonly SharedBlock[];
  readonly description: QemuDescription;
  readonly blocks: readonly RamBlock[];
  readonly tracker: DirtyTracker & { readonly reason: string };
  readonly capabilities: Readonly<Record<string, boolean>>;
  readonly bandwidth: number;
}

/**
 * A running QEMU, to be sent once. Its shared RAM is read in place. Blocks that QEMU keeps for itself (firmware, tables, video
 * memory) are few and small: with the device state they come from QEMU's own migration stream once the guest has been stopped.
 * The caller keeps QEMU.
 */
export class OutgoingVm implements SourceVm, AsyncDisposable {
  readonly layout: VmLayout;
  readonly blocks: readonly RamBlock[];
  readonly ramSection = RAM_SECTION;
  readonly before: Uint8Array;
  readonly guest: Guest;
  readonly description: Uint8Array;
  /** How writes are detected, why so, and what it costs. */
  readonly tracker: { readonly kind: string; readonly reason: string };
  readonly #options: OutgoingOptions;
  readonly #parts: Parts;
  readonly #duty: DutyCycle;
  #deviceState = new DeviceState('QEMU');
  /** Ends the reading of QEMU's own stream. */
  readonly #reading = new AbortController();

  private constructor(options: OutgoingOptions, parts: Parts) {
    const { machine, blocks, tracker, shared, description } = parts;
    this.#options = options;
    this.#parts = parts;
    this.#duty = new DutyCycle(options.qmp);
    this.layout = machine;
    this.blocks = blocks;
    this.before = streamHeader(machine);
    this.description = encodeDescription(description);
    this.tracker = { kind: tracker.kind, reason: tracker.reason };
    const names = new Set(shared.map(({ name }) => name));
    this.guest = {
      tracker,
      settling: blocks.filter(({ name }) => !names.has(name)).map(({ name }) => name),
      switchoverMs: options.switchoverMs ?? SWITCHOVER_MS,
      pause: () => this.#pause(),
      resume: () => this.#resume(),
      ...(parts.running && { throttle: (percentage) => this.#duty.set(percentage) }),
    };
  }

  /**
   * Finds and maps the VM's RAM. The guest notices nothing.
   * @throws MigrationError GUEST_ERROR: this QEMU cannot be moved so, and what to do; what mapping and QMP throw
   */
  static async open(options: OutgoingOptions): Promise<OutgoingVm> {
    const { qmp, pid } = options;
    const state = await runState(qmp);
    if (!MOVABLE.includes(state)) throw notMovable(state);
    const running = state === 'running';
    const machine = await describeMachine(qmp);
    const shared = await findSharedRam(qmp, pid, machine.blocks);
    const { text, leavesOutMemfd } = versionOf(qmp);
    const memfd = shared.find((block) => block.memfd);
    if (memfd && !leavesOutMemfd) throw memfdTooNew(memfd.name, text);
    const description = describe({ qemu: text, machine, running }, shared, await listDevices(qmp));
    const blocks: RamBlock[] = [];
    let tracker: Parts['tracker'] | undefined;
    try {
      for (const block of machine.blocks)
        blocks.push({ ...layoutOf(block), mapping: await map(block, shared) });
      const watched = blocks.filter(({ name }) => shared.some((block) => block.name === name));
      tracker = await pickTracker(watched, { pid, shared, wish: options.tracker ?? 'auto' });
      const capabilities = await setCapabilities(qmp, DEVICE_STATE_ONLY);
      const bandwidth = await setBandwidth(qmp, LOCAL_BANDWIDTH);
      return new OutgoingVm(options, {
        machine,
        state,
        running,
        shared,
        description,
        blocks,
        tracker,
        capabilities,
        bandwidth,
      });
    } catch (error) {
      await tracker?.[Symbol.asyncDispose]();
      await Promise.all(blocks.map(({ mapping }) => mapping.close()));
      throw error;
    }
  }

  /** The guest ran when the migration began: it goes on where it ends up. */
  get running(): boolean {
    return this.#parts.running;
  }

  /** QMP's run state when the migration began. */
  get state(): string {
    return this.#parts.state;
  }

  /** QEMU's machine type such as `pc-i440fx-7.2`. */
  get machine(): string {
    return this.layout.machine;
  }

  after(): AsyncGenerator<Uint8Array> {
    return this.#deviceState.read();
  }

  /** `stop` drains disks and networks; then QEMU's stream is read to its end. */
  async #pause(): Promise<void> {
    const { qmp, pid } = this.#options;
    await this.#duty.set(0);
    await qmp.execute('stop', {}, { timeoutMs: QEMU_TIMEOUT_MS });
    this.#reading.signal.throwIfAborted();
    const owner = await userOf(pid);
    const folder = await mkdtemp(join(tmpdir(), 'rdma-migrate-qemu-'));
    try {
      // The socket alone is given to QEMU's user: what root does in a folder of somebody else's can be led astray.
      if (process.getuid?.() === 0) await chmod(folder, 0o711);
      await using listener = await StreamListener.open(
        join(folder, 'outgoing.sock'),
        process.getuid?.() === 0 ? owner : undefined,
      );
      await this.#readStream(listener);
    } finally {
      await rm(folder, { recursive: true, force: true });
    }
  }

  async #readStream(listener: StreamListener): Promise<void> {
    const { qmp } = this.#options;
    const accepted = listener.accept(QEMU_TIMEOUT_MS);
    accepted.catch(() => undefined); // migrate may be refused before
    this.#reading.signal.throwIfAborted();
    await qmp.execute('migrate', { uri: listener.uri });
    const stream = await accepted;
    this.#deviceState = new DeviceState('QEMU');
    const target = {
      allocate: (vm: ReceivedVm) => this.#allocate(vm),
      append: async (bytes: Uint8Array) => this.#deviceState.push(bytes),
    };
    await readOwnStream(stream, target, {
      shared: this.#parts.shared.map(({ name }) => name),
      timeoutMs: QEMU_TIMEOUT_MS,
      signal: this.#reading.signal,
    });
    const info = await waitUntilOver(qmp, QEMU_TIMEOUT_MS);
    if (info.status === 'completed') return;
    const why = info['error-desc'] ?? info.status;
    throw new MigrationError(
      'GUEST_ERROR',
      'device-state',
      `QEMU's own migration of the device state failed: ${why}`,
    );
  }

  /** What QEMU says about the VM now must match what the destination has been told before. */
  async #allocate({ layout }: ReceivedVm): Promise<readonly RamBlock[]> {
    const differs = difference(this.layout, layout);
    if (differs === undefined) return this.blocks;
    const message = `the VM has changed since the migration began (${differs}): migrate it again`;
    throw new MigrationError('BLOCK_MISMATCH', 'device-state', message);
  }

  /**
   * Takes the guest back: also its disks, whose locks the other QEMU may hold for a moment still.
   * `cont` is refused while QEMU's own migration is under way.
   */
  async #resume(): Promise<void> {
    const { qmp } = this.#options;
    // A pause that is under way still, for QEMU was slow to stop, must not stop the guest behind this.
    this.#reading.abort(new MigrationError('CANCELLED', 'device-state', 'the guest goes on'));
    await this.#duty.set(0);
    if (!isOver(await queryMigrate(qmp))) {
      await qmp.execute('migrate_cancel');
      await waitUntilOver(qmp, QEMU_TIMEOUT_MS);
    }
    if (!this.running) return;
    const deadline = performance.now() + LOCKS_TIMEOUT_MS;
    for (;;) {
      try {
        await qmp.execute('cont');
        return;
      } catch (error) {
        const refused = error instanceof MigrationError && error.code === 'PEER_ERROR';
        if (!refused || performance.now() > deadline) throw error;
      }
      await delay(RETRY_MS);
    }
  }

  /** Unmaps the RAM and leaves QEMU as it was found. Never fails: QEMU may have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    const { qmp } = this.#options;
    this.#reading.abort();
    await this.#duty.set(0).catch(() => undefined);
    await this.guest.tracker[Symbol.asyncDispose]();
    await Promise.all(this.blocks.map(({ mapping }) => mapping.close()));
    await setCapabilities(qmp, this.#parts.capabilities).catch(() => undefined);
    await setBandwidth(qmp, this.#parts.bandwidth).catch(() => undefined);
  }
}

const layoutOf = ({ name, length }: RamBlock | { name: string; length: bigint }) => ({ name, length });

function map(
  { name, length }: { readonly name: string; readonly length: bigint },
  shared: readonly SharedBlock[],
): Promise<Mapping> {
  const path = shared.find((block) => block.name === name)?.path;
  return path === undefined ? mapMemfd({ name, length }) : mapFile({ path, length, mode: 'read' });
}

/** From 8.1 on x-ignore-shared leaves out only files that have a name. */
export function versionOf(qmp: QmpClient): { readonly text: string; readonly leavesOutMemfd: boolean } {
  const { major, minor, micro } = qmp.greeting.version;
  return { text: `${major}.${minor}.${micro}`, leavesOutMemfd: major < 8 || (major === 8 && minor < 1) };
}

function notMovable(state: string): MigrationError {
  const what: Readonly<Record<string, string>> = {
    postmigrate:
      'its guest has been moved already, or a migration of it has been given up: `cont` lets it go on here, if it runs nowhere else',
    inmigrate: 'it waits for a VM itself',
  };
  const why = what[state] ?? 'its guest is in no state to be moved';
  return new MigrationError('GUEST_ERROR', 'configure', `this QEMU is ${state}: ${why}`, {
    details: { state },
  });
}

function memfdTooNew(name: string, version: string): MigrationError {
  const message =
    `QEMU ${version} would put the memfd of RAM block ${name} into its own stream while the guest stands still: from 8.1 on it leaves out files only. Start it ` +
    `with -object memory-backend-file,id=${name},mem-path=/dev/shm/NAME,share=on,size=SIZE instead`;
  return new MigrationError('GUEST_ERROR', 'configure', message, { details: { version } });
}
