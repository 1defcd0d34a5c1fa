/** A small VMM: it owns its guest's RAM, runs it, pauses it, and moves it live. */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import {
  type DestinationTarget,
  type Guest,
  type Mapping,
  mapMemfd,
  openDeviceState,
  type RamBlock,
  type ReceivedVm,
  type SourceVm,
  sealDeviceState,
  streamHeader,
  type TrackerChoice,
  trackDirty,
} from 'rdma-migrate';
import { CONTROL, type GuestState, PAGE, STATE, verify } from './memory.ts';

const MACHINE = 'example-live-1.0';
const DEVICE = 'guest';
const MAX_DEVICE_STATE = 4096;
const PAUSE_MS = 10_000;

/** A guest in this process's memory, newly started or as it arrived. */
export class ExampleVm implements AsyncDisposable {
  readonly #mapping: Mapping;
  readonly #control = new SharedArrayBuffer(12);
  readonly #state = new SharedArrayBuffer(24);
  readonly #command = new Int32Array(this.#control);
  readonly #progress = new BigInt64Array(this.#state);
  readonly #vcpu: Worker;

  private constructor(mapping: Mapping) {
    this.#mapping = mapping;
    this.#command[CONTROL.wanted] = CONTROL.pause;
    this.#command[CONTROL.standing] = 1;
    this.#vcpu = new Worker(new URL('./guest-worker.js', import.meta.url), {
      workerData: {
        address: mapping.address,
        pages: this.pages,
        control: this.#control,
        state: this.#state,
      },
    });
  }

  /** A paused guest, its vCPU ready to run. Untouched RAM is what pass 0 leaves. */
  static async create(bytes: bigint): Promise<ExampleVm> {
    const vm = new ExampleVm(await mapMemfd({ name: 'ram', length: bytes }));
    vm.state = { nextPage: 0, pass: 1 };
    await once(vm.#vcpu, 'online');
    return vm;
  }

  get ram(): Mapping {
    return this.#mapping;
  }

  get pages(): number {
    return Number(this.#mapping.length) / PAGE;
  }

  get state(): GuestState {
    return { nextPage: Number(this.#progress[STATE.nextPage]), pass: Number(this.#progress[STATE.pass]) };
  }

  /** Set while it is paused. */
  set state({ nextPage, pass }: GuestState) {
    this.#progress[STATE.nextPage] = BigInt(nextPage);
    this.#progress[STATE.pass] = BigInt(pass);
  }

  /** When the guest last wrote, milliseconds of the monotonic clock. */
  get lastWrite(): number {
    return Number(this.#progress[STATE.lastWrite]) / 1e6;
  }

  run(): void {
    Atomics.store(this.#command, CONTROL.wanted, CONTROL.run);
    Atomics.notify(this.#command, CONTROL.wanted);
  }

  /** Resolves when the guest is paused. */
  async pause(): Promise<void> {
    Atomics.store(this.#command, CONTROL.wanted, CONTROL.pause);
    Atomics.notify(this.#command, CONTROL.wanted);
    const late = performance.now() + PAUSE_MS;
    while (Atomics.load(this.#command, CONTROL.standing) === 0) {
      if (performance.now() > late) throw new Error('the guest does not pause');
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /** Checks every page, while the guest is paused. @throws Error for a wrong page */
  verify(): void {
    verify(this.#mapping.address, this.pages, this.state);
  }

  /** The VM as its migration sees it. */
  async toSource(kind: TrackerChoice): Promise<SourceVm> {
    const blocks: RamBlock[] = [{ name: 'ram', length: this.#mapping.length, mapping: this.#mapping }];
    const guest: Guest = {
      tracker: await trackDirty(blocks, { kind, guestWritesHere: true }),
      pause: () => this.pause(),
      resume: async () => this.run(),
      throttle: async (percentage) => void Atomics.store(this.#command, CONTROL.throttle, percentage),
    };
    const vm = this;
    return {
      layout: { machine: MACHINE, pageSize: PAGE, blocks },
      blocks,
      ramSection: { sectionId: 1, instanceId: 0 },
      before: streamHeader({ machine: MACHINE, pageSize: PAGE }),
      guest,
      async *after() {
        yield streamEnd(vm.state);
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#vcpu.terminate();
    await this.#mapping.close();
  }
}

/** Where the VM lands: a machine that is ready for it, which this owns until `take`. */
export class ExampleTarget implements DestinationTarget, AsyncDisposable {
  #vm: ExampleVm | undefined;
  #deviceState = Buffer.alloc(0);

  async allocate({ layout }: ReceivedVm): Promise<readonly RamBlock[]> {
    const [block, ...rest] = layout.blocks;
    if (layout.machine !== MACHINE || !block || rest.length > 0) throw new Error('this is another machine');
    this.#vm = await ExampleVm.create(block.length);
    return [{ ...block, mapping: this.#vm.ram }];
  }

  async append(bytes: Uint8Array): Promise<void> {
    if (this.#deviceState.length + bytes.length > MAX_DEVICE_STATE) throw new Error('too much device state');
    this.#deviceState = Buffer.concat([this.#deviceState, bytes]);
  }

  /** The guest's state can be read: from here on the VM lives here. */
  async commit(): Promise<void> {
    if (this.#vm) this.#vm.state = parseState(this.#deviceState);
  }

  async abort(): Promise<void> {
    await this.#vm?.[Symbol.asyncDispose]();
    this.#vm = undefined;
  }

  /** The VM that has arrived, paused. */
  take(): ExampleVm {
    const vm = this.#vm;
    if (vm === undefined) throw new Error('nothing has arrived');
    this.#vm = undefined;
    return vm;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.abort();
  }
}

/** The guest's state as the state of the VMM's only device. */
function streamEnd(guest: GuestState): Uint8Array {
  const devices = [{ name: DEVICE, state: Buffer.from(JSON.stringify(guest)) }];
  return sealDeviceState({ pageSize: PAGE, devices });
}

/** It came from a peer: nothing in it is believed unseen. */
function parseState(stream: Buffer): GuestState {
  const [device] = openDeviceState(stream);
  if (device?.name !== DEVICE) throw new Error('no state of the guest');
  const { nextPage, pass } = JSON.parse(Buffer.from(device.state).toString()) as Partial<GuestState>;
  if (!Number.isSafeInteger(nextPage) || !Number.isSafeInteger(pass))
    throw new Error('no state of the guest');
  return { nextPage: nextPage as number, pass: pass as number };
}
