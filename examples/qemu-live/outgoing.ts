/** The source's end: a QEMU with a running guest, as rdma-migrate sees it. */
import { join } from 'node:path';
import {
  type DirtyTracker,
  type Guest,
  type Mapping,
  MigrationError,
  mapFile,
  mapMemfd,
  type QmpClient,
  type RamBlock,
  type ReceivedVm,
  readQemuStream,
  type SourceVm,
  streamHeader,
  type VmLayout,
} from 'rdma-migrate';
import { describeMachine, difference } from './machine.ts';
import {
  DEVICE_STATE_ONLY,
  isOver,
  queryMigrate,
  setCapabilities,
  waitUntilOver,
} from './migration-status.ts';
import { StreamListener } from './stream-socket.ts';
import { DutyCycle } from './throttle.ts';

const QEMU_TIMEOUT_MS = 30_000;
/** Distinguishes the ram section from the sections of the device state, which QEMU counts from 0. */
const RAM_SECTION = { sectionId: 0x7fff_0000, instanceId: 0 } as const;
/** Stopping, QEMU's stream of device state and loading it at the other end, as measured on an otherwise idle host. */
const SWITCHOVER_MS = 60;

export interface OutgoingOptions {
  readonly qmp: QmpClient;
  /** The files of the RAM blocks that QEMU maps shared, by block name. */
  readonly ramFiles: Readonly<Record<string, string>>;
  /** A folder for a socket of ours. */
  readonly folder: string;
  /** Watches these blocks for writes. */
  readonly tracker: (blocks: readonly RamBlock[]) => DirtyTracker | Promise<DirtyTracker>;
  readonly switchoverMs?: number;
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
  readonly #options: OutgoingOptions;
  readonly #capabilities: Readonly<Record<string, boolean>>;
  readonly #duty: DutyCycle;
  #deviceState: Uint8Array[] = [];

  private constructor(
    options: OutgoingOptions,
    machine: VmLayout,
    memory: { blocks: readonly RamBlock[]; tracker: DirtyTracker },
    capabilities: Readonly<Record<string, boolean>>,
  ) {
    this.#options = options;
    this.#capabilities = capabilities;
    this.#duty = new DutyCycle(options.qmp);
    this.layout = machine;
    this.blocks = memory.blocks;
    this.before = streamHeader(machine);
    this.guest = {
      tracker: memory.tracker,
      settling: memory.blocks.filter(({ name }) => !this.#isShared(name)).map(({ name }) => name),
      switchoverMs: options.switchoverMs ?? SWITCHOVER_MS,
      pause: () => this.#pause(),
      resume: () => this.#resume(),
      throttle: (percentage) => this.#duty.set(percentage),
    };
  }

  /**
   * Maps the VM's RAM. The guest notices nothing.
   * @throws MigrationError GUEST_ERROR, what mapping and QMP throw
   */
  static async open(options: OutgoingOptions): Promise<OutgoingVm> {
    const machine = await describeMachine(options.qmp);
    const blocks: RamBlock[] = [];
    try {
      for (const block of machine.blocks)
        blocks.push({ ...block, mapping: await map(block, options.ramFiles) });
      const shared = blocks.filter(({ name }) => Object.hasOwn(options.ramFiles, name));
      const tracker = await options.tracker(shared);
      const capabilities = await setCapabilities(options.qmp, DEVICE_STATE_ONLY);
      return new OutgoingVm(options, machine, { blocks, tracker }, capabilities);
    } catch (error) {
      await Promise.all(blocks.map(({ mapping }) => mapping.close()));
      throw error;
    }
  }

  async *after(): AsyncGenerator<Uint8Array> {
    yield* this.#deviceState;
  }

  #isShared(name: string): boolean {
    return Object.hasOwn(this.#options.ramFiles, name);
  }

  /** `stop` drains disks and networks; then QEMU's stream is read to its end. */
  async #pause(): Promise<void> {
    const { qmp, folder, ramFiles } = this.#options;
    await this.#duty.set(0);
    await qmp.execute('stop', {}, { timeoutMs: QEMU_TIMEOUT_MS });
    await using listener = await StreamListener.open(join(folder, 'outgoing.sock'));
    const accepted = listener.accept(QEMU_TIMEOUT_MS);
    accepted.catch(() => undefined); // migrate may be refused before
    await qmp.execute('migrate', { uri: listener.uri });
    const stream = await accepted;
    this.#deviceState = [];
    const target = {
      allocate: (vm: ReceivedVm) => this.#allocate(vm),
      append: async (bytes: Uint8Array) => void this.#deviceState.push(Buffer.from(bytes)),
    };
    await readQemuStream(stream, target, { shared: Object.keys(ramFiles) });
  }

  /** What QEMU says about the VM now must match what the destination has been told before. */
  async #allocate({ layout }: ReceivedVm): Promise<readonly RamBlock[]> {
    const differs = difference(this.layout, layout);
    if (differs === undefined) return this.blocks;
    const message = `the VM has changed since the migration began (${differs}): migrate it again`;
    throw new MigrationError('BLOCK_MISMATCH', 'device-state', message);
  }

  /** `cont` is refused while QEMU's own migration is under way. */
  async #resume(): Promise<void> {
    const { qmp } = this.#options;
    await this.#duty.set(0);
    if (!isOver(await queryMigrate(qmp))) {
      await qmp.execute('migrate_cancel');
      await waitUntilOver(qmp, QEMU_TIMEOUT_MS);
    }
    await qmp.execute('cont');
  }

  /** Unmaps the RAM and leaves QEMU as it was found. Never fails: QEMU may have ended. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#duty.set(0).catch(() => undefined);
    await this.guest.tracker[Symbol.asyncDispose]();
    await Promise.all(this.blocks.map(({ mapping }) => mapping.close()));
    await setCapabilities(this.#options.qmp, this.#capabilities).catch(() => undefined);
  }
}

function map(
  { name, length }: { readonly name: string; readonly length: bigint },
  ramFiles: Readonly<Record<string, string>>,
): Promise<Mapping> {
  const path = Object.hasOwn(ramFiles, name) ? ramFiles[name] : undefined;
  return path === undefined ? mapMemfd({ name, length }) : mapFile({ path, length, mode: 'read' });
}
