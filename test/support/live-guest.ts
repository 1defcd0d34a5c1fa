/** A guest in this process that writes its RAM while it is sent, and knows which pages it wrote: needs no kernel feature. */
import { closeSync, openSync, readSync, writeSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import {
  type DestinationTarget,
  type DirtyTracker,
  type Guest,
  type Mapping,
  mapMemfd,
  type RamBlock,
  type ReceivedVm,
  type SourceVm,
  trackDirty,
} from '../../lib/index.ts';
import type { NativeBitmap } from '../../lib/native/memory.ts';
import { beginning } from '../protocol/streams.ts';
import { SMALL_DEVICE_STATE } from './small-vm.ts';

export const PAGE = 4096;

/** Memory of this process, which JavaScript reaches through the kernel. */
class ProcessMemory implements Disposable {
  readonly #fd = openSync('/proc/self/mem', 'r+');

  write(address: bigint, bytes: Uint8Array): void {
    const written = writeSync(this.#fd, bytes, 0, bytes.length, Number(address));
    if (written !== bytes.length) throw new Error(`wrote ${written} of ${bytes.length} bytes at ${address}`);
  }

  read(address: bigint, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    if (readSync(this.#fd, bytes, 0, length, Number(address)) !== length) throw new Error('short read');
    return bytes;
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }
}

/** The pages that the guest below has written: exact, and available at once. */
class ExactTracker implements DirtyTracker {
  readonly kind = 'bitmap';
  readonly written = new Set<number>();
  started = 0;
  stopped = 0;
  collects = 0;

  async start(): Promise<void> {
    this.started += 1;
  }

  async collect([bitmap]: readonly NativeBitmap[]): Promise<bigint> {
    this.collects += 1;
    const pages = [...this.written];
    this.written.clear();
    for (const page of pages) bitmap?.setRange(page, 1);
    return BigInt(pages.length);
  }

  async stop(): Promise<void> {
    this.stopped += 1;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop();
  }
}

export interface LiveGuestOptions {
  readonly pages?: number;
  /** Pages that the guest writes over and over; default: all. */
  readonly workingSet?: number;
  /** Pages written in each turn of the event loop. */
  readonly speed?: number;
  /** What the VMM says once the migration runs; 0 before. More than allowed keeps the guest from being stopped. */
  readonly switchoverMs?: number;
  /** False: the VMM offers no way to throttle its guest. Default true. */
  readonly canThrottle?: boolean;
  /** What finds the pages that it writes. Default: it knows itself. */
  readonly tracker?: 'write-protect' | 'hash';
  /** Replaces what the VMM does. */
  readonly pause?: () => Promise<void>;
}

/** Each page holds the number of the write that filled it last, in every word: a torn page shows. */
export class LiveGuest implements SourceVm, AsyncDisposable {
  readonly layout;
  readonly ramSection = { sectionId: 2, instanceId: 0 };
  readonly before = beginning().bytes();
  readonly blocks: readonly RamBlock[];
  readonly tracker = new ExactTracker();
  guest: Guest;
  /** What the VMM was asked to do, in order. */
  readonly calls: string[] = [];
  writes = 0;

  readonly #memory = new ProcessMemory();
  readonly #options: Required<Pick<LiveGuestOptions, 'pages' | 'workingSet' | 'speed'>>;
  #running = true;
  #share = 1;
  #loop: Promise<void>;

  static async create(options: LiveGuestOptions = {}): Promise<LiveGuest> {
    const length = BigInt(options.pages ?? 2048) * BigInt(PAGE);
    const rom = 16n * BigInt(PAGE);
    const mappings = [await mapMemfd({ name: 'ram', length }), await mapMemfd({ name: 'rom', length: rom })];
    const guest = new LiveGuest(mappings as [Mapping, Mapping], options);
    const { tracker: kind } = options;
    if (kind)
      guest.guest = {
        ...guest.guest,
        tracker: await trackDirty(guest.blocks.slice(0, 1), { kind, guestWritesHere: true }),
      };
    return guest;
  }

  private constructor([ram, rom]: [Mapping, Mapping], options: LiveGuestOptions) {
    const { pages = 2048, workingSet = pages, speed = 8 } = options;
    this.#options = { pages, workingSet, speed };
    this.blocks = [
      { name: 'ram', length: ram.length, mapping: ram },
      { name: 'rom', length: rom.length, mapping: rom },
    ];
    this.layout = { machine: 'pc-i440fx-7.2', pageSize: PAGE, blocks: this.blocks };
    this.guest = this.#vmm(options);
    for (let page = 0; page < pages; page += 1) this.#write(page);
    this.#loop = this.#run();
  }

  #vmm({ pause, switchoverMs = 0, canThrottle = true }: LiveGuestOptions): Guest {
    const call = (name: string): void => void this.calls.push(name);
    const { tracker } = this;
    const throttle = async (percentage: number): Promise<void> => {
      call(`throttle ${percentage}`);
      this.#share = 1 - percentage / 100;
    };
    return {
      tracker: this.tracker,
      settling: ['rom'],
      get switchoverMs() {
        return tracker.started > 0 ? switchoverMs : 0;
      },
      pause: async () => {
        call('pause');
        await pause?.();
        await this.stop();
        this.#fillRom();
      },
      resume: async () => {
        call('resume');
        this.#running = true;
        this.#loop = this.#run();
      },
      ...(canThrottle && { throttle }),
    };
  }

  get isRunning(): boolean {
    return this.#running;
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#loop;
  }

  async *after(): AsyncGenerator<Uint8Array> {
    if (this.#running) throw new Error('device state of a guest that runs');
    yield SMALL_DEVICE_STATE;
  }

  async #run(): Promise<void> {
    while (this.#running) {
      const count = Math.ceil(this.#options.speed * this.#share);
      for (let written = 0; written < count; written += 1)
        this.#write(this.writes % this.#options.workingSet);
      await setImmediate();
    }
  }

  #write(page: number): void {
    this.writes += 1;
    this.#memory.write(this.#address(page), stamped(this.writes));
    this.tracker.written.add(page);
  }

  #address(page: number): bigint {
    return (this.blocks[0] as RamBlock).mapping.address + BigInt(page * PAGE);
  }

  /** Small private memory that a VMM copies once its guest is paused. */
  #fillRom(): void {
    this.#memory.write((this.blocks[1] as RamBlock).mapping.address, stamped(this.writes));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    this.#memory[Symbol.dispose]();
    for (const { mapping } of this.blocks) await mapping.close();
  }
}

function stamped(value: number): Buffer {
  const words = new BigUint64Array(PAGE / 8).fill(BigInt(value));
  return Buffer.from(words.buffer);
}

/** A destination in memory. */
export class MemoryTarget implements DestinationTarget, AsyncDisposable {
  blocks: RamBlock[] = [];
  committed = false;
  aborted = false;
  readonly #onCommit: () => Promise<void>;

  constructor(onCommit: () => Promise<void> = async () => {}) {
    this.#onCommit = onCommit;
  }

  async allocate({ layout }: ReceivedVm): Promise<readonly RamBlock[]> {
    for (const block of layout.blocks) {
      this.blocks.push({ ...block, mapping: await mapMemfd({ name: block.name, length: block.length }) });
    }
    return this.blocks;
  }

  async append(): Promise<void> {}

  async commit(): Promise<void> {
    await this.#onCommit();
    this.committed = true;
  }

  async abort(): Promise<void> {
    this.aborted = true;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { mapping } of this.blocks) await mapping.close();
  }
}

/** Blocks whose content differs, by name; and pages of the destination whose content no write ever made. */
export async function differences(source: SourceVm, target: MemoryTarget): Promise<string[]> {
  const found: string[] = [];
  for (const [index, { name, mapping }] of source.blocks.entries()) {
    const other = target.blocks[index];
    if (!other || (await mapping.digest()) !== (await other.mapping.digest())) found.push(name);
  }
  return found;
}
