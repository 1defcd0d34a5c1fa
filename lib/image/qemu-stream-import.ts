import { MigrationError } from '../errors.ts';
import type { NativeMemory, NativePageReader } from '../native/memory.ts';
import { type StreamEvent, StreamParser } from '../protocol/stream.ts';
import { CAPABILITY_IGNORE_SHARED } from '../protocol/stream-format.ts';
import type { DeviceStateResult } from '../protocol/tail.ts';
import { type Coverage, type MissingPages, missingPagesError, WHOLE, withGaps } from '../ram/coverage.ts';
import type { DestinationTarget, RamBlockLayout } from '../ram/vm.ts';
import type { Completeness } from './manifest.ts';
import { STREAM_PAGE_SIZE } from './page-size.ts';
import { type ImageProgress, type OnProgress, ProgressMeter } from './progress.ts';

/** What a stream needs from the target of its VM. */
export type QemuStreamTarget = Pick<DestinationTarget, 'allocate' | 'append'>;

export interface QemuStreamImportOptions {
  /** Names of the blocks whose pages are not in the stream (x-ignore-shared). */
  readonly shared: readonly string[];
  readonly acceptUnproven: boolean;
  /** Whether what was appended to the target is whole. */
  readonly deviceState: () => DeviceStateResult;
  readonly onProgress?: OnProgress | undefined;
}

/** What is known once a stream has been read. */
export interface QemuStreamFacts {
  readonly machine: string;
  /** Bytes of the blocks whose pages the stream brought. */
  readonly ramBytes: bigint;
  readonly streamBytes: bigint;
  readonly completeness: Completeness;
  /** Whether the stream accounted for every page that it has to bring; `whole` or `with-gaps`. */
  readonly coverage: Coverage;
}

type Configuration = Extract<StreamEvent, { type: 'configuration' }>;

/** A plain QEMU stream on its way into memory: page records go into the blocks of a target, device state is appended to it. */
export class QemuStreamImport {
  readonly #target: QemuStreamTarget;
  readonly #native: NativeMemory;
  readonly #options: QemuStreamImportOptions;
  readonly #parser = new StreamParser('pages');
  readonly #meter: ProgressMeter;
  #mode: 'framing' | 'pages' | 'device-state' = 'framing';
  #configuration: Configuration | undefined;
  #blocks: readonly RamBlockLayout[] = [];
  #pages: NativePageReader | undefined;
  #streamBytes = 0n;

  constructor(target: QemuStreamTarget, native: NativeMemory, options: QemuStreamImportOptions) {
    this.#target = target;
    this.#native = native;
    this.#options = options;
    this.#meter = new ProgressMeter(options.onProgress);
  }

  /** Consumes the chunk, which must not change meanwhile. */
  async push(chunk: Uint8Array): Promise<void> {
    this.#streamBytes += BigInt(chunk.length);
    for (let rest = chunk; rest.length > 0; ) {
      if (this.#mode === 'framing') rest = await this.#parse(rest);
      else if (this.#mode === 'pages') rest = await this.#readPages(rest);
      else rest = await this.#append(rest);
    }
    this.#report();
  }

  /** The input has ended. @throws MigrationError STREAM_TRUNCATED */
  finish(): QemuStreamFacts {
    if (this.#mode !== 'device-state') throw this.#parser.suspicion ?? this.#truncated();
    const state = this.#options.deviceState();
    if (!state.complete && !this.#options.acceptUnproven) throw unproven(state.reason);
    const coverage = this.#coverage(state);
    this.#report('commit');
    return {
      machine: this.#configuration?.machine ?? '',
      ramBytes: this.#ramBytes(),
      streamBytes: this.#streamBytes,
      completeness: state.complete ? 'vmdescription' : 'none',
      coverage,
    };
  }

  /** Parses until page records or the device state begin; returns what follows. */
  async #parse(bytes: Uint8Array): Promise<Uint8Array> {
    this.#parser.push(bytes);
    for (let event = this.#parser.next(); event !== undefined; event = this.#parser.next()) {
      if (event.type === 'configuration') this.#configuration = checkPageSize(event);
      if (event.type === 'ram-start') await this.#allocate(event);
      if (event.type === 'pages') return this.#handOver('pages');
      if (event.type === 'ram-end') {
        this.#checkShared();
        return this.#handOver('device-state');
      }
    }
    return bytes.subarray(bytes.length);
  }

  #handOver(mode: 'pages' | 'device-state'): Uint8Array {
    this.#mode = mode;
    return this.#parser.takeBuffered();
  }

  async #allocate({ section, blocks }: Extract<StreamEvent, { type: 'ram-start' }>): Promise<void> {
    const { machine = '', pageSize = 0, capabilities = [] } = this.#configuration ?? {};
    const { shared } = this.#options;
    if (shared.length > 0 && !capabilities.includes(CAPABILITY_IGNORE_SHARED)) throw nothingShared(shared);
    this.#blocks = blocks;
    const layout = { machine, pageSize, blocks };
    const { before } = this.#parser;
    const stored = await this.#target.allocate({ layout, ramSection: section, before });
    const filled = stored.filter(({ name }) => !shared.includes(name));
    this.#pages = this.#native.createPageReader(filled.map(({ name, mapping }) => ({ name, mapping })));
  }

  async #readPages(bytes: Uint8Array): Promise<Uint8Array> {
    if (this.#pages === undefined)
      throw new MigrationError('INTERNAL', 'image', 'page records before the RAM blocks');
    const { consumed, done } = await this.#pages.push(bytes, 0);
    if (done) this.#mode = 'framing';
    return bytes.subarray(consumed);
  }

  async #append(bytes: Uint8Array): Promise<Uint8Array> {
    await this.#target.append(bytes);
    return bytes.subarray(bytes.length);
  }

  /** With x-ignore-shared the stream does not say whose pages are left out: a block without any pages shows it. */
  #checkShared(): void {
    if (!this.#configuration?.capabilities.includes(CAPABILITY_IGNORE_SHARED)) return;
    const shared = this.#missing().filter(({ pages, of }) => pages === of);
    if (shared.length > 0) throw this.#notShared(shared);
  }

  /** @throws MigrationError STREAM_TRUNCATED: pages are missing, and nothing says that they may be */
  #coverage(state: DeviceStateResult): Coverage {
    const missing = this.#missing();
    if (missing.length === 0) return WHOLE;
    const causes = (state.complete && state.mayLeaveOut) || [];
    // A guest that reports its free pages has others too.
    if (causes.length > 0 && this.#contentPages() > 0n) return withGaps(bytesOf(missing), causes);
    throw missingPagesError('image', 'the QEMU stream', missing, this.#advice());
  }

  #advice(): string {
    const many =
      'Migrate again with the capability multifd off: with it pages travel on separate channels, which are not in the stream';
    return this.#contentPages() === 0n ? `It has no page with content at all. ${many}` : many;
  }

  #contentPages(): bigint {
    return (this.#pages?.pagesRead ?? 0n) - (this.#pages?.zeroPages ?? 0n);
  }

  #missing(): MissingPages[] {
    const brought = this.#brought();
    const pageSize = BigInt(this.#configuration?.pageSize ?? 1);
    return (this.#pages?.missing() ?? []).map(({ block, pages, first }) => {
      const { name = '', length = 0n } = brought[block] ?? {};
      return { name, pages, first, of: length / pageSize };
    });
  }

  #brought(): RamBlockLayout[] {
    return this.#blocks.filter(({ name }) => !this.#options.shared.includes(name));
  }

  /** Bytes of RAM that the stream has to bring. */
  #ramBytes(): bigint {
    return this.#brought().reduce((total, { length }) => total + length, 0n);
  }

  #report(phase: ImageProgress['phase'] = this.#phase()): void {
    const pageSize = BigInt(this.#configuration?.pageSize ?? 0);
    const done = (this.#pages?.pagesRead ?? 0n) * pageSize;
    this.#meter.update({ phase, done, total: this.#ramBytes(), streamBytes: this.#streamBytes });
  }

  #phase(): ImageProgress['phase'] {
    if (this.#mode === 'device-state') return 'device-state';
    return this.#blocks.length === 0 ? 'setup' : 'ram';
  }

  #truncated(): MigrationError {
    const where = { setup: 'before its RAM begins', ram: 'within its RAM', 'device-state': '', commit: '' };
    const message =
      `the QEMU stream ends after ${this.#streamBytes} bytes, ${where[this.#phase()]}: the VM is not whole. ` +
      'Migrate it again and check that QMP query-migrate says completed';
    const details = { streamBytes: this.#streamBytes };
    return new MigrationError('STREAM_TRUNCATED', 'image', message, { details });
  }

  #notShared(blocks: readonly MissingPages[]): MigrationError {
    const names = blocks.map(({ name }) => name).join(', ');
    const message =
      `the QEMU stream holds no page of ${names}: QEMU left out RAM that is shared (x-ignore-shared). Name the file of each such block in ` +
      'sharedRam (--shared-ram BLOCK=FILE), or migrate with that capability off';
    return new MigrationError('INVALID_ARGUMENT', 'image', message, { details: { blocks: names } });
  }
}

const bytesOf = (missing: readonly MissingPages[]): bigint =>
  missing.reduce((sum, { pages }) => sum + pages, 0n) * BigInt(STREAM_PAGE_SIZE);

function checkPageSize(event: Configuration): Configuration {
  if (event.pageSize === STREAM_PAGE_SIZE) return event;
  const message =
    `the QEMU stream has pages of ${event.pageSize} bytes; only streams with pages of ${STREAM_PAGE_SIZE} can be converted. ` +
    'Receive that VM over rdma: instead';
  throw new MigrationError('STREAM_ERROR', 'image', message, { details: { pageSize: event.pageSize } });
}

function nothingShared(names: readonly string[]): MigrationError {
  const message =
    `sharedRam names ${names.join(', ')}, but the QEMU stream was made without x-ignore-shared and holds all pages: ` +
    'leave sharedRam out';
  return new MigrationError('INVALID_ARGUMENT', 'image', message);
}

function unproven(reason: string): MigrationError {
  const message =
    `the QEMU stream cannot be proven whole: ${reason}. Migrate again with the machine property suppress-vmdesc off, or set ` +
    'acceptUnproven (--accept-unproven) if the machine has it on and query-migrate said completed';
  return new MigrationError('STREAM_TRUNCATED', 'image', message);
}
