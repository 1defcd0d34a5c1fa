/** The destination's end: a waiting QEMU (`-incoming defer`), as rdma-migrate sees it. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import {
  type DestinationTarget,
  type Mapping,
  MigrationError,
  mapFile,
  mapMemfd,
  type QmpClient,
  type RamBlock,
  type ReceivedVm,
  type VmLayout,
  writeQemuStream,
} from 'rdma-migrate';
import { describeMachine, difference } from './machine.ts';
import { completion, DEVICE_STATE_ONLY, setCapabilities } from './migration-status.ts';
import { connectTo } from './stream-socket.ts';

const LOAD_TIMEOUT_MS = 30_000;

export interface IncomingOptions {
  readonly qmp: QmpClient;
  /** The files of the RAM blocks that QEMU maps shared, by block name. */
  readonly ramFiles: Readonly<Record<string, string>>;
  /** Guest-physical addresses of those blocks: QEMU compares them with its own. `pc.ram` of a `pc` has 0. */
  readonly guestAddresses: Readonly<Record<string, bigint>>;
  /** A folder for a socket of QEMU's. */
  readonly folder: string;
}

/**
 * A waiting QEMU as a target. Shared RAM arrives where QEMU has mapped it. The commit gives QEMU the rest, its private blocks and the
 * device state, as a migration stream, and is over when QEMU has loaded that: the VM is then whole and paused. The code that started
 * the migration lets it go on with {@link run}. A QEMU that was given a stream and refused it has ended; no VM is lost with it.
 */
export class IncomingVm implements DestinationTarget, AsyncDisposable {
  readonly ramIsFresh: boolean;
  readonly #options: IncomingOptions;
  readonly #machine: VmLayout;
  readonly #deviceState: Uint8Array[] = [];
  readonly #abort = new AbortController();
  #vm: ReceivedVm | undefined;
  #blocks: RamBlock[] = [];

  private constructor(options: IncomingOptions, machine: VmLayout, ramIsFresh: boolean) {
    this.#options = options;
    this.#machine = machine;
    this.ramIsFresh = ramIsFresh;
  }

  /** @throws what QMP throws */
  static async open(options: IncomingOptions): Promise<IncomingVm> {
    await setCapabilities(options.qmp, DEVICE_STATE_ONLY);
    const fresh = await Promise.all(Object.values(options.ramFiles).map(isHole));
    return new IncomingVm(options, await describeMachine(options.qmp), !fresh.includes(false));
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
      this.#blocks.push({ ...block, mapping: await this.#map(block.name, block.length) });
    }
    return this.#blocks;
  }

  #map(name: string, length: bigint): Promise<Mapping> {
    const { ramFiles } = this.#options;
    const path = Object.hasOwn(ramFiles, name) ? ramFiles[name] : undefined;
    return path === undefined ? mapMemfd({ name, length }) : mapFile({ path, length, mode: 'write' });
  }

  async append(bytes: Uint8Array): Promise<void> {
    this.#deviceState.push(Buffer.from(bytes));
  }

  /** @throws MigrationError PEER_ERROR or CONNECTION_CLOSED: QEMU does not take the stream; TIMEOUT, CANCELLED */
  async commit(): Promise<void> {
    const { qmp, folder } = this.#options;
    const path = join(folder, 'incoming.sock');
    const events = qmp.events();
    try {
      await qmp.execute('migrate-incoming', { uri: `unix:${path}` });
      const loaded = completion(events);
      loaded.catch(() => undefined);
      await this.#feed(path, loaded);
    } finally {
      await events.return?.();
    }
  }

  /** The reason why QEMU stops reading comes from QEMU itself, not from the socket. */
  async #feed(path: string, loaded: Promise<void>): Promise<void> {
    const { ramFiles, guestAddresses } = this.#options;
    const signal = AbortSignal.any([this.#abort.signal, AbortSignal.timeout(LOAD_TIMEOUT_MS)]);
    const socket = await connectTo(path);
    const cut = (): void => void socket.destroy();
    signal.addEventListener('abort', cut, { once: true });
    try {
      const vm = this.#received();
      const ignoreShared = Object.keys(ramFiles);
      const written = writeQemuStream(vm, socket, { ignoreShared, guestAddresses, signal });
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
    const deviceState = this.#deviceState;
    const after = async function* () {
      yield* deviceState;
    };
    return { layout, ramSection, before, blocks: this.#blocks, after };
  }

  /** Lets the guest go on here. */
  async run(): Promise<void> {
    await this.#options.qmp.execute('cont');
  }

  async abort(): Promise<void> {
    this.#abort.abort();
    await this[Symbol.asyncDispose]();
  }

  /** Unmaps; QEMU keeps its RAM. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#blocks.splice(0).map(({ mapping }) => mapping.close()));
  }
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
