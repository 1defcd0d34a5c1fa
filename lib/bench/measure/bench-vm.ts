/** A synthetic VM in memory, which may write its own RAM while it is moved; and fresh memory that it moves into. */
import { randomFillSync, randomInt } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { MigrationError } from '../../errors.ts';
import { native } from '../../native/index.ts';
import type { NativePageReader } from '../../native/memory.ts';
import { sealDeviceState, streamHeader } from '../../protocol/framing.ts';
import { RAM_FLAG } from '../../protocol/stream-format.ts';
import { Writer } from '../../protocol/writer.ts';
import { type Mapping, mapMemfd } from '../../ram/mapping.ts';
import type { DirtyTracker } from '../../ram/tracker.ts';
import { trackDirty } from '../../ram/trackers/index.ts';
import type { DestinationTarget, Guest, RamBlock, ReceivedVm, SourceVm } from '../../ram/vm.ts';

const PAGE = 4096;
const STRIPE_PAGES = 256;
const STRIPE = STRIPE_PAGES * PAGE;
const BLOCK = 'bench.ram';
const MACHINE = 'rdma-migrate-bench';
/** The guest writes this often, in bursts. */
const BURST_MS = 5;
const MOST_PAGES_IN_A_BURST = 4096;

export interface VmShape {
  /** A multiple of 1 MiB. */
  readonly ramBytes: number;
  /** Of every MiB, percent that are zero pages. */
  readonly zeroPercent: number;
  /** Bytes per second that the guest writes; 0: it stands still. */
  readonly dirtyRate: number;
}

export interface MakeVm {
  readonly signal?: AbortSignal | undefined;
  /** After each MiB: making takes about a second for a GiB. */
  readonly onPart?: () => Promise<void>;
}

/** A VM with its RAM written. */
export class BenchVm implements AsyncDisposable {
  readonly vm: SourceVm;
  readonly #mapping: Mapping;
  readonly #guest: WritingGuest | undefined;

  private constructor(vm: SourceVm, mapping: Mapping, guest: WritingGuest | undefined) {
    this.vm = vm;
    this.#mapping = mapping;
    this.#guest = guest;
  }

  static async make({ ramBytes, zeroPercent, dirtyRate }: VmShape, making: MakeVm = {}): Promise<BenchVm> {
    const length = BigInt(ramBytes);
    const mapping = await mapMemfd({ name: BLOCK, length });
    try {
      const reader = native.createPageReader([{ name: BLOCK, mapping: mapping as never }]);
      await fill(reader, ramBytes, zeroPercent, making);
      const block = { name: BLOCK, length, mapping };
      const guest = dirtyRate > 0 ? await WritingGuest.make(block, reader, dirtyRate) : undefined;
      return new BenchVm(describe(block, guest), mapping, guest);
    } catch (error) {
      await mapping.close();
      throw error;
    }
  }

  /** Lets the guest write, until it is paused. */
  start(): void {
    this.#guest?.start();
  }

  async close(): Promise<void> {
    await this.#guest?.close();
    await this.#mapping.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

function describe(block: RamBlock, guest: Guest | undefined): SourceVm {
  const { name, length } = block;
  return {
    ...(guest && { guest }),
    layout: { machine: MACHINE, pageSize: PAGE, blocks: [{ name, length }] },
    blocks: [block],
    ramSection: { sectionId: 2, instanceId: 0 },
    before: streamHeader({ machine: MACHINE, pageSize: PAGE }),
    async *after() {
      yield sealDeviceState({ pageSize: PAGE });
    },
  };
}

async function fill(
  reader: NativePageReader,
  ramBytes: number,
  zeroPercent: number,
  { signal, onPart }: MakeVm,
): Promise<void> {
  const written = Math.round((STRIPE_PAGES * (100 - zeroPercent)) / 100);
  const noise = randomFillSync(Buffer.alloc(STRIPE));
  const pages = Array.from({ length: written }, (_, page) => page * PAGE);
  for (let stripe = 0; stripe < ramBytes && written > 0; stripe += STRIPE) {
    if (signal?.aborted) throw new MigrationError('CANCELLED', 'setup', 'the benchmark was cancelled');
    await reader.push(
      pageRecords(
        noise,
        pages.map((page) => stripe + page),
      ),
      0,
    );
    await onPart?.();
  }
}

/** Page records as in QEMU's stream: JavaScript has no view of a mapping, native code writes them there. */
function pageRecords(noise: Buffer, addresses: readonly number[]): Uint8Array {
  const name = Buffer.from(BLOCK, 'latin1');
  const writer = new Writer(addresses.length * (PAGE + 32) + 8);
  for (const [index, address] of addresses.entries()) {
    const at = (index % STRIPE_PAGES) * PAGE;
    noise.writeBigUInt64BE(BigInt(address) + 1n, at);
    writer
      .u64(BigInt(address) | RAM_FLAG.PAGE)
      .u8(name.length)
      .bytes(name);
    writer.bytes(noise.subarray(at, at + PAGE));
  }
  return writer.u64(RAM_FLAG.EOS).finish();
}

/** Writes whole pages here and there, at a rate. */
class WritingGuest implements Guest {
  readonly tracker: DirtyTracker;
  readonly #reader: NativePageReader;
  readonly #pages: number;
  readonly #rate: number;
  readonly #noise = randomFillSync(Buffer.alloc(STRIPE));
  #running = false;
  #loop: Promise<void> | undefined;

  private constructor(tracker: DirtyTracker, reader: NativePageReader, pages: number, rate: number) {
    this.tracker = tracker;
    this.#reader = reader;
    this.#pages = pages;
    this.#rate = rate;
  }

  static async make(block: RamBlock, reader: NativePageReader, rate: number): Promise<WritingGuest> {
    const tracker = await trackDirty([block], { guestWritesHere: true });
    return new WritingGuest(tracker, reader, Number(block.length) / PAGE, rate);
  }

  start(): void {
    this.#running = true;
    this.#loop ??= this.#write();
  }

  async pause(): Promise<void> {
    this.#running = false;
    await this.#loop;
    this.#loop = undefined;
  }

  async resume(): Promise<void> {
    this.start();
  }

  async close(): Promise<void> {
    await this.pause();
    await this.tracker[Symbol.asyncDispose]();
  }

  async #write(): Promise<void> {
    const began = performance.now();
    let written = 0;
    while (this.#running) {
      await pause(BURST_MS);
      const due = (this.#rate * (performance.now() - began)) / 1000 / PAGE - written;
      const count = Math.min(MOST_PAGES_IN_A_BURST, Math.floor(due));
      if (count < 1 || !this.#running) continue;
      const addresses = Array.from({ length: count }, () => randomInt(this.#pages) * PAGE);
      await this.#reader.push(pageRecords(this.#noise, addresses), 0);
      written += count;
    }
  }
}

/** Memory that was never touched, for one VM of the size that was announced. */
export class FreshTarget implements DestinationTarget, AsyncDisposable {
  readonly ramIsFresh = true;
  readonly #ramBytes: bigint;
  readonly #mappings: Mapping[] = [];

  constructor(ramBytes: number) {
    this.#ramBytes = BigInt(ramBytes);
  }

  async allocate({ layout }: ReceivedVm): Promise<readonly RamBlock[]> {
    const [block] = layout.blocks;
    if (layout.blocks.length !== 1 || block?.length !== this.#ramBytes)
      throw new MigrationError('BLOCK_MISMATCH', 'setup', 'this is not the VM that the benchmark announced');
    const mapping = await mapMemfd({ name: BLOCK, length: block.length });
    this.#mappings.push(mapping);
    return [{ ...block, mapping }];
  }

  async append(): Promise<void> {}
  async commit(): Promise<void> {}
  async abort(): Promise<void> {}

  async close(): Promise<void> {
    await Promise.all(this.#mappings.map((mapping) => mapping.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
