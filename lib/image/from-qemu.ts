import { MigrationError } from '../errors.ts';
import type { NativeMemory, NativePageReader } from '../native/memory.ts';
import { type StreamEvent, StreamParser } from '../protocol/stream.ts';
import { CAPABILITY_IGNORE_SHARED } from '../protocol/stream-format.ts';
import type { RamBlockLayout } from '../ram/vm.ts';
import { imageError, throwIfAborted } from './errors.ts';
import { loadNative } from './load-native.ts';
import type { Completeness } from './manifest.ts';
import { STREAM_PAGE_SIZE } from './page-size.ts';
import { type ImageProgress, type OnProgress, ProgressMeter } from './progress.ts';
import type { RamPaths } from './ram-store.ts';
import { StreamInput } from './stream-input.ts';
import { ImageWriter } from './writer.ts';

export interface FromQemuOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
  /** Blocks whose file is created at this absolute path instead of inside the image. */
  readonly ramFiles?: RamPaths;
  /** For a stream made with x-ignore-shared: the existing files of the blocks whose pages are not in it. Mapped in place. */
  readonly sharedRam?: RamPaths;
  /** Takes a stream that nothing proves to be whole: without the VMDESCRIPTION at its end. Default false. */
  readonly acceptUnproven?: boolean;
  /** Records a digest of each RAM block. Default false. */
  readonly digests?: boolean;
  /** The addon, or what stands for it. */
  readonly native?: NativeMemory;
}

export interface FromQemuResult {
  /** Absolute path of the image. */
  readonly path: string;
  readonly machine: string;
  readonly ramBytes: bigint;
  readonly streamBytes: bigint;
  readonly completeness: Completeness;
  /** Partial directories of dead processes that were removed on the way. */
  readonly removedPartials: readonly string[];
}

/**
 * Reads a plain QEMU stream (QMP `migrate exec:cat>FILE`) into a new image at `imagePath`. The input may be a pipe; memory used
 * beyond the mapped RAM is a few chunks of it. When it fails, nothing is left behind and a Readable is destroyed.
 * @throws MigrationError IMAGE_EXISTS; STREAM_ERROR: not a stream that can be read; STREAM_TRUNCATED: it ends too early, or has no
 *   VMDESCRIPTION (see `acceptUnproven`); INVALID_ARGUMENT: `sharedRam` is missing or does not fit; BLOCK_MISMATCH; DISK_FULL,
 *   OUT_OF_MEMORY, PERMISSION_DENIED, IO_ERROR; CANCELLED.
 */
export async function fromQemu(
  input: AsyncIterable<Uint8Array>,
  imagePath: string,
  options: FromQemuOptions = {},
): Promise<FromQemuResult> {
  const action = `reading a QEMU stream into ${imagePath}`;
  const source = new StreamInput(input, options.signal, action);
  try {
    throwIfAborted(options.signal, action);
    const native = options.native ?? (await loadNative());
    return await importStream(source.chunks(), imagePath, { ...options, native });
  } catch (error) {
    throw imageError(error, action);
  } finally {
    source.stop();
  }
}

async function importStream(
  chunks: AsyncIterable<Uint8Array>,
  imagePath: string,
  options: FromQemuOptions & { readonly native: NativeMemory },
): Promise<FromQemuResult> {
  const { native, ramFiles, sharedRam, digests = false } = options;
  const provenance = { origin: 'qemu-stream' } as const;
  await using writer = await ImageWriter.open(imagePath, {
    native,
    digests,
    ramFiles,
    sharedRam,
    provenance,
  });
  const stream = new QemuStreamImport(writer, native, options);
  for await (const chunk of chunks) await stream.push(chunk);
  const result = stream.finish();
  await commit(writer, options.signal);
  return result;
}

/** Writing gigabytes to the disk takes its time: the signal ends that too. */
async function commit(writer: ImageWriter, signal: AbortSignal | undefined): Promise<void> {
  throwIfAborted(signal, `completing ${writer.path}`);
  const onAbort = (): void => void writer.abort();
  signal?.addEventListener('abort', onAbort, { once: true });
  try {
    await writer.commit();
  } finally {
    signal?.removeEventListener('abort', onAbort);
  }
}

type Configuration = Extract<StreamEvent, { type: 'configuration' }>;

class QemuStreamImport {
  readonly #writer: ImageWriter;
  readonly #native: NativeMemory;
  readonly #sharedRam: RamPaths;
  readonly #acceptUnproven: boolean;
  readonly #parser = new StreamParser('pages');
  readonly #meter: ProgressMeter;
  #mode: 'framing' | 'pages' | 'device-state' = 'framing';
  #configuration: Configuration | undefined;
  #blocks: readonly RamBlockLayout[] = [];
  #pages: NativePageReader | undefined;
  #streamBytes = 0n;

  constructor(writer: ImageWriter, native: NativeMemory, options: FromQemuOptions) {
    this.#writer = writer;
    this.#native = native;
    this.#sharedRam = options.sharedRam ?? {};
    this.#acceptUnproven = options.acceptUnproven ?? false;
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

  /** The input has ended. */
  finish(): FromQemuResult {
    if (this.#mode !== 'device-state') throw this.#truncated();
    const state = this.#writer.deviceState();
    if (!state.complete && !this.#acceptUnproven) throw unproven(state.reason);
    this.#report('commit');
    return {
      path: this.#writer.path,
      machine: this.#configuration?.machine ?? '',
      ramBytes: this.#ramBytes(),
      streamBytes: this.#streamBytes,
      completeness: state.complete ? 'vmdescription' : 'none',
      removedPartials: this.#writer.removedPartials,
    };
  }

  /** Parses until page records or the device state begin; gives what comes then. */
  async #parse(bytes: Uint8Array): Promise<Uint8Array> {
    this.#parser.push(bytes);
    for (let event = this.#parser.next(); event !== undefined; event = this.#parser.next()) {
      if (event.type === 'configuration') this.#configuration = checkPageSize(event);
      if (event.type === 'ram-start') await this.#allocate(event);
      if (event.type === 'pages') return this.#handOver('pages');
      if (event.type === 'ram-end') {
        this.#checkCoverage();
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
    const shared = Object.keys(this.#sharedRam);
    if (shared.length > 0 && !capabilities.includes(CAPABILITY_IGNORE_SHARED)) throw nothingShared(shared);
    this.#blocks = blocks;
    const layout = { machine, pageSize, blocks };
    const { before } = this.#parser;
    const stored = await this.#writer.allocate({ layout, ramSection: section, before });
    const filled = stored.filter(({ name }) => !Object.hasOwn(this.#sharedRam, name));
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
    await this.#writer.append(bytes);
    return bytes.subarray(bytes.length);
  }

  /** With x-ignore-shared the stream does not say whose pages are left out: too few pages tell that some are. */
  #checkCoverage(): void {
    if (!this.#configuration?.capabilities.includes(CAPABILITY_IGNORE_SHARED)) return;
    const expected = this.#ramBytes() / BigInt(this.#configuration.pageSize);
    const found = this.#pages?.pagesRead ?? 0n;
    if (found < expected) throw this.#missingPages(found, expected);
  }

  /** Bytes of RAM that the stream has to bring. */
  #ramBytes(): bigint {
    const brought = this.#blocks.filter(({ name }) => !Object.hasOwn(this.#sharedRam, name));
    return brought.reduce((total, { length }) => total + length, 0n);
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

  #missingPages(found: bigint, expected: bigint): MigrationError {
    const names = this.#blocks.filter(({ name }) => !Object.hasOwn(this.#sharedRam, name));
    const message =
      `the QEMU stream holds ${found} of the ${expected} pages of ${names.map(({ name }) => name).join(', ')}: QEMU left out ` +
      'RAM that is shared (x-ignore-shared). Name the file of each such block in sharedRam (--shared-ram BLOCK=FILE), ' +
      'or migrate with that capability off';
    return new MigrationError('INVALID_ARGUMENT', 'image', message, { details: { found, expected } });
  }
}

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
