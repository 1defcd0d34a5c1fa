import type { FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { MigrationError } from '../errors.ts';
import type { NativeMemory } from '../native/memory.ts';
import { parseConfiguration, type StreamConfiguration } from '../protocol/stream-configuration.ts';
import type { RamBlock, RamSection, SourceVm, VmLayout } from '../ram/vm.ts';
import { during, throwIfAborted } from './errors.ts';
import { descriptorPath, readBounded } from './files.ts';
import { loadNative } from './load-native.ts';
import { MAX_BEFORE_BYTES, type Manifest, type ManifestBlock } from './manifest.ts';
import { checkImageOptions } from './option-schema.ts';
import type { OpenImageOptions, VerifyOptions } from './options.ts';
import type { RamPaths } from './ram-store.ts';
import { type ImageDirectory, openImageDirectory, openMember, openRamFile } from './store.ts';
import { type ImageVerification, verifyImage } from './verify.ts';

const AFTER_CHUNK = 256 << 10;

/** A VM on disk, to be sent: its RAM files are mapped read-only. */
export class ImageReader implements SourceVm, AsyncDisposable {
  readonly path: string;
  readonly manifest: Manifest;
  readonly layout: VmLayout;
  readonly blocks: readonly RamBlock[];
  readonly ramSection: RamSection;
  readonly before: Uint8Array;
  readonly #after: FileHandle;
  #closing: Promise<void> | undefined;

  /** Made by {@link openImage}. @internal */
  constructor(image: ImageDirectory, before: Uint8Array, after: FileHandle, blocks: readonly RamBlock[]) {
    const { machine, pageSize, ramSection } = image.manifest;
    this.path = image.path;
    this.manifest = image.manifest;
    this.layout = { machine, pageSize, blocks: image.manifest.blocks.map(layoutOf) };
    this.blocks = blocks;
    this.ramSection = ramSection;
    this.before = before;
    this.#after = after;
  }

  async *after(): AsyncGenerator<Uint8Array> {
    const length = Number(this.manifest.after.length);
    const shown = join(this.path, this.manifest.after.file);
    for (let position = 0; position < length; ) {
      if (this.#closing !== undefined) throw closed(this.path);
      const buffer = Buffer.allocUnsafe(Math.min(AFTER_CHUNK, length - position));
      const { bytesRead } = await during(`reading ${shown}`, () =>
        this.#after.read(buffer, 0, buffer.length, position),
      );
      if (bytesRead === 0) throw shrunk(shown, position, length);
      position += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }

  /**
   * Reads everything and compares it with the digests that were kept when the VM was received (`digests`). Finds accidents: whoever can write the
   * files can write the digests. The `state` says whether all of it, some or nothing could be compared. Closing the image ends it.
   * @throws MigrationError IMAGE_INVALID: something differs. IO_ERROR, CANCELLED, CLOSED
   */
  verify(options: VerifyOptions = {}): Promise<ImageVerification> {
    checkImageOptions('verify', options);
    return verifyImage(this, options);
  }

  /** Unmaps the RAM. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= release(this.blocks, this.#after);
    return this.#closing;
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/**
 * Opens the image at `path`: checks its manifest and its files and maps the RAM read-only. The caller closes it.
 * @throws MigrationError IMAGE_NOT_FOUND, IMAGE_INVALID, PERMISSION_DENIED, OUT_OF_MEMORY, IO_ERROR, CANCELLED.
 */
export async function openImage(path: string, options: OpenImageOptions = {}): Promise<ImageReader> {
  checkImageOptions('open', options);
  const native = await loadNative();
  const image = await openImageDirectory(path);
  try {
    const before = await readBefore(image);
    const { file, length } = image.manifest.after;
    const after = await openMember(image, file, length);
    const blocks: RamBlock[] = [];
    try {
      for (const block of image.manifest.blocks) {
        throwIfAborted(options.signal, `opening ${image.path}`);
        blocks.push(await mapBlock(image, block, options.ramFiles, native));
      }
      return new ImageReader(image, before, after, blocks);
    } catch (error) {
      await release(blocks, after);
      throw error;
    }
  } finally {
    await image.handle.close();
  }
}

async function mapBlock(
  image: ImageDirectory,
  block: ManifestBlock,
  named: RamPaths | undefined,
  native: NativeMemory,
): Promise<RamBlock> {
  const handle = await openRamFile(image, block, named);
  try {
    const options = { path: descriptorPath(handle), length: block.length, mode: 'read' as const };
    const mapping = await during(`mapping the RAM block ${block.name} of ${image.path}`, () =>
      native.mapFile(options),
    );
    return { ...layoutOf(block), mapping };
  } finally {
    await handle.close();
  }
}

async function readBefore(image: ImageDirectory): Promise<Uint8Array> {
  const { file, length } = image.manifest.before;
  const handle = await openMember(image, file, length);
  try {
    const before = await readBounded(handle, Number(MAX_BEFORE_BYTES), join(image.path, file));
    checkBefore(image, before);
    return before;
  } finally {
    await handle.close();
  }
}

/** `before` is sent as it is, so what a peer reads in it must be what the manifest says. */
function checkBefore({ path, manifest }: ImageDirectory, before: Uint8Array): void {
  const { machine, pageSize, capabilities } = readBeforeConfiguration(path, before);
  if (machine === manifest.machine && pageSize === manifest.pageSize && capabilities.length === 0) return;
  const message = `${path}: its ${manifest.before.file} belongs to another VM than its manifest: the image is damaged`;
  throw new MigrationError('IMAGE_INVALID', 'image', message, { details: { machine, pageSize } });
}

function readBeforeConfiguration(path: string, before: Uint8Array): StreamConfiguration {
  try {
    return parseConfiguration(before);
  } catch (cause) {
    const message = `${path}: the beginning of its stream cannot be read: the image is damaged`;
    throw new MigrationError('IMAGE_INVALID', 'image', message, { cause });
  }
}

function layoutOf({ name, length, guestAddress }: ManifestBlock): VmLayout['blocks'][number] {
  return guestAddress === undefined ? { name, length } : { name, length, guestAddress };
}

async function release(blocks: readonly RamBlock[], after: FileHandle): Promise<void> {
  await Promise.all([after.close(), ...blocks.map((block) => block.mapping.close())]);
}

function shrunk(shown: string, position: number, length: number): MigrationError {
  const message = `${shown} ended at ${position} of ${length} bytes: something changes the image while it is read`;
  return new MigrationError('IMAGE_INVALID', 'image', message, { details: { position, length } });
}

function closed(path: string): MigrationError {
  return new MigrationError('CLOSED', 'image', `${path} was closed while its device state was read`);
}
