import type { Writable } from 'node:stream';
import { MigrationError } from '../errors.ts';
import type { NativeMemory } from '../native/memory.ts';
import {
  encodeEos,
  encodeFooter,
  encodeRamHeader,
  encodeRamStart,
  withCapabilities,
} from '../protocol/stream-encode.ts';
import type { RamBlockLayout, SourceVm } from '../ram/vm.ts';
import { imageError, throwIfAborted } from './errors.ts';
import { loadNative } from './load-native.ts';
import { checkImageOptions } from './option-schema.ts';
import type { WriteQemuStreamOptions } from './options.ts';
import { STREAM_PAGE_SIZE } from './page-size.ts';
import { type ImageProgress, ProgressMeter } from './progress.ts';
import { StreamOutput } from './stream-output.ts';

/** Bytes of page records per piece: large enough that system calls cost nothing, small enough to be written while the next is filled. */
const BUFFER_BYTES = 1 << 20;

/** What was written, bytes. */
export interface WriteQemuStreamResult {
  readonly streamBytes: bigint;
  /** Bytes of RAM whose pages are in the stream. */
  readonly ramBytes: bigint;
}

/** A paused VM. Its ignored blocks are not read. */
export type QemuStreamVm = Omit<SourceVm, 'guest'>;

/**
 * Writes a VM as a plain QEMU stream, which a stock QEMU loads with `-incoming`. The output is not ended: its owner does that.
 * Memory used beyond the mapped RAM: some MiB.
 * @throws MigrationError INVALID_ARGUMENT: a block of `ignoreShared` that the VM does not have or without a known guest address;
 *   CONNECTION_CLOSED: the reader of the output is gone; DISK_FULL, IO_ERROR, CANCELLED.
 */
export async function writeQemuStream(
  vm: QemuStreamVm,
  output: Writable,
  options: WriteQemuStreamOptions = {},
): Promise<WriteQemuStreamResult> {
  checkImageOptions('writeStream', options);
  const native = await loadNative();
  const action = 'writing a QEMU stream';
  throwIfAborted(options.signal, action);
  const stream = new StreamOutput(output, options.signal, action);
  try {
    return await new QemuStreamExport(vm, stream, native, options).run();
  } catch (error) {
    throw imageError(error, action);
  } finally {
    stream.release();
  }
}

class QemuStreamExport {
  readonly #vm: QemuStreamVm;
  readonly #stream: StreamOutput;
  readonly #native: NativeMemory;
  readonly #options: WriteQemuStreamOptions;
  readonly #ignored: ReadonlySet<string>;
  readonly #meter: ProgressMeter;

  constructor(vm: QemuStreamVm, stream: StreamOutput, native: NativeMemory, options: WriteQemuStreamOptions) {
    this.#vm = vm;
    this.#stream = stream;
    this.#native = native;
    this.#options = options;
    this.#ignored = new Set(options.ignoreShared);
    this.#meter = new ProgressMeter(options.onProgress);
  }

  async run(): Promise<WriteQemuStreamResult> {
    checkPageSize(this.#vm.layout.pageSize);
    const { ramSection } = this.#vm;
    const total = sum(this.#vm.blocks.filter((block) => !this.#ignored.has(block.name)));
    this.#report('setup', 0n, total);
    await this.#stream.write(this.#head());
    await this.#stream.write(encodeRamHeader(ramSection, 'part'));
    await this.#pages(total);
    await this.#stream.write(Buffer.concat([encodeEos(), encodeFooter(ramSection)]));
    await this.#stream.write(
      Buffer.concat([encodeRamHeader(ramSection, 'end'), encodeEos(), encodeFooter(ramSection)]),
    );
    this.#report('device-state', total, total);
    for await (const bytes of this.#vm.after()) await this.#stream.write(bytes);
    this.#report('commit', total, total);
    return { streamBytes: this.#stream.written, ramBytes: total };
  }

  /** Everything up to the end of ram's START. */
  #head(): Uint8Array {
    const { before, blocks, ramSection } = this.#vm;
    if (this.#ignored.size === 0) return Buffer.concat([before, encodeRamStart(ramSection, blocks, 'pages')]);
    const known = blocks.map(({ name }) => name);
    const unknown = [...this.#ignored].find((name) => !known.includes(name));
    if (unknown !== undefined) {
      throw invalid(`ignoreShared: the VM has no RAM block '${unknown}', its blocks are ${known.join(', ')}`);
    }
    const addressed = blocks.map((block) => this.#withAddress(block));
    const start = encodeRamStart(ramSection, addressed, 'pages', { guestAddresses: true });
    return Buffer.concat([withCapabilities(before), start]);
  }

  /** QEMU compares the addresses of the blocks that it ignores and skips those of the others. */
  #withAddress({ name, length, guestAddress }: RamBlockLayout): RamBlockLayout {
    const { guestAddresses = {} } = this.#options;
    const given = Object.hasOwn(guestAddresses, name) ? guestAddresses[name] : undefined;
    const known = given ?? guestAddress;
    if (known === undefined && this.#ignored.has(name)) {
      throw invalid(
        `ignoreShared: the guest address of the RAM block ${name} is not known, because the VM was not received ` +
          'with x-ignore-shared: give it in guestAddresses (0 for pc.ram) or write the stream with all pages',
      );
    }
    return { name, length, guestAddress: known ?? 0n };
  }

  /** Fills one buffer while the other is being written. */
  async #pages(total: bigint): Promise<void> {
    const blocks = this.#vm.blocks.filter((block) => !this.#ignored.has(block.name));
    const writer = this.#native.createPageWriter(blocks.map(({ name, mapping }) => ({ name, mapping })));
    let [filling, waiting] = [Buffer.allocUnsafeSlow(BUFFER_BYTES), Buffer.allocUnsafeSlow(BUFFER_BYTES)];
    let writing = Promise.resolve();
    for (let done = false; !done; ) {
      const filled = await writer.fill(filling);
      await writing;
      writing = this.#stream.write(filling.subarray(0, filled.length));
      // Awaited in the next turn; until then a failure is not an unhandled rejection.
      writing.catch(() => undefined);
      this.#report('ram', writer.pagesWritten * BigInt(this.#vm.layout.pageSize), total);
      [filling, waiting] = [waiting, filling];
      done = filled.done;
    }
    await writing;
  }

  #report(phase: ImageProgress['phase'], done: bigint, total: bigint): void {
    this.#meter.update({ phase, done, total, streamBytes: this.#stream.written });
  }
}

function checkPageSize(pageSize: number): void {
  if (pageSize === STREAM_PAGE_SIZE) return;
  const message = `the VM has pages of ${pageSize} bytes; only VMs with pages of ${STREAM_PAGE_SIZE} can be written as a QEMU stream`;
  throw new MigrationError('INVALID_ARGUMENT', 'image', message, { details: { pageSize } });
}

function sum(blocks: readonly RamBlockLayout[]): bigint {
  return blocks.reduce((total, block) => total + block.length, 0n);
}

function invalid(message: string): MigrationError {
  return new MigrationError('INVALID_ARGUMENT', 'image', message);
}
