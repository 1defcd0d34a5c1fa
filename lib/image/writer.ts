import { type FileHandle, lstat, rename, rm } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { MigrationError } from '../errors.ts';
import type { NativeMemory } from '../native/memory.ts';
import { DeviceStateCheck, type DeviceStateResult } from '../protocol/tail.ts';
import type { Arrival, DestinationTarget, RamBlock, ReceivedVm } from '../ram/vm.ts';
import { Abandoned, removeEarlier } from './abandoned.ts';
import { codeOf, during, imageError } from './errors.ts';
import {
  AFTER_FILE,
  BEFORE_FILE,
  createDurable,
  createFile,
  MANIFEST_FILE,
  syncDirectory,
  writeFully,
} from './files.ts';
import { loadNative } from './load-native.ts';
import {
  MANIFEST_FORMAT,
  MANIFEST_VERSION,
  MAX_DEVICE_STATE_BYTES,
  type Manifest,
  type ManifestBlock,
  type Provenance,
  serializeManifest,
} from './manifest.ts';
import { checkImageOptions } from './option-schema.ts';
import type { ImageWriterOptions } from './options.ts';
import { OUTSIDE_FILE } from './outside-files.ts';
import { createPartial, OWNER_FILE, removeDeadPartials, removePartial } from './partial.ts';
import { RamStore } from './ram-store.ts';
import { toolVersion } from './tool.ts';
import { StreamDigest } from './verify.ts';

/**
 * Receives a VM as an image: a directory that appears under its name only when it is complete and durable.
 * Until then everything is in `.NAME.partial-RANDOM` next to it.
 */
export class ImageWriter implements DestinationTarget, AsyncDisposable {
  /** Absolute path of the image. */
  readonly path: string;
  /** Partial directories of earlier, certainly dead processes that were removed as well. */
  readonly removedPartials: readonly string[];
  /** This object creates the RAM files, sparse. */
  readonly ramIsFresh: boolean;
  /** The directory with RAM of an earlier try, until a source has come. */
  readonly abandoned: string | undefined;
  readonly #abandoned: Abandoned | undefined;
  readonly #partial: string;
  readonly #store: RamStore;
  readonly #digests: boolean;
  readonly #check = new DeviceStateCheck();
  #provenance: Partial<Provenance>;
  #vm: ReceivedVm | undefined;
  #after: FileHandle | undefined;
  #afterLength = 0n;
  readonly #afterDigest = new StreamDigest();
  #ended: 'committed' | 'aborted' | undefined;
  #failure: MigrationError | undefined;
  #steps: Promise<unknown> = Promise.resolve();
  #aborting: Promise<void> | undefined;

  private constructor(paths: Paths, native: NativeMemory, options: ImageWriterOptions) {
    this.path = paths.image;
    this.removedPartials = paths.removed;
    this.#abandoned = paths.abandoned;
    this.abandoned = paths.abandoned?.path;
    this.#partial = paths.partial;
    this.#store = new RamStore(paths.partial, options, native);
    this.ramIsFresh = Object.keys(options.sharedRam ?? {}).length === 0;
    this.#digests = options.digests ?? false;
    this.#provenance = options.provenance ?? {};
  }

  /**
   * Starts an image at `path`, in a directory that exists.
   * @throws MigrationError IMAGE_EXISTS: something has that name. PERMISSION_DENIED, DISK_FULL, IO_ERROR: the directory above
   *   accepts no new one. INVALID_ARGUMENT: a bad path in `ramFiles` or `sharedRam`.
   */
  static async open(path: string, options: ImageWriterOptions = {}): Promise<ImageWriter> {
    const image = resolve(path);
    checkImageOptions('writer', options);
    const native = await loadNative();
    if (await exists(image)) throw imageExists(image);
    if (!(await exists(dirname(image)))) throw noParent(image);
    return during(`starting the image ${image}`, async () => {
      const abandoned = options.continues ? await Abandoned.of(image) : undefined;
      const removed = await removeDeadPartials(image, abandoned?.path);
      const partial = await createPartial(image);
      try {
        return new ImageWriter({ image, partial, removed, abandoned }, native, options);
      } catch (error) {
        await removePartial(partial);
        throw error;
      }
    });
  }

  /**
   * @throws MigrationError DISK_FULL, OUT_OF_MEMORY: the RAM cannot fit here (`needed`, and `free` or `limit`, in bytes). IMAGE_EXISTS: a
   *   path of `ramFiles` is taken. INVALID_ARGUMENT: `ramFiles` or `sharedRam` name a block that the VM does not have.
   */
  allocate(vm: ReceivedVm): Promise<readonly RamBlock[]> {
    return this.#step('allocating the VM', async () => {
      if (this.#vm !== undefined) throw misuse('allocate was called twice');
      this.#vm = vm;
      await createDurable(join(this.#partial, BEFORE_FILE), vm.before);
      this.#after = await createFile(join(this.#partial, AFTER_FILE));
      await this.#allocateRam(vm);
      return this.#store.blocks;
    });
  }

  /** See {@link DestinationTarget.canContinue}. */
  get canContinue(): boolean {
    return this.#abandoned !== undefined;
  }

  async #allocateRam({ layout, continues }: ReceivedVm): Promise<void> {
    if (!continues) await this.#abandoned?.remove();
    const earlier = continues && (await this.#abandoned?.moveInto(this.#partial));
    await this.#store.allocate(layout.blocks, earlier || undefined);
    if (earlier) await removeEarlier(earlier);
  }

  /** @throws MigrationError DISK_FULL, IO_ERROR; STREAM_ERROR: more device state than any VM has. */
  append(bytes: Uint8Array): Promise<void> {
    return this.#step('writing device state', async () => {
      const after = this.#allocated().after;
      this.#afterLength += BigInt(bytes.length);
      if (this.#afterLength > MAX_DEVICE_STATE_BYTES) {
        const message = `the VM's device state is longer than ${MAX_DEVICE_STATE_BYTES} bytes: the sender is broken`;
        throw new MigrationError('STREAM_ERROR', 'image', message);
      }
      await writeFully(after, bytes);
      this.#check.push(bytes);
      if (this.#digests) this.#afterDigest.push(bytes);
    });
  }

  /** Whether the device state proves to be whole if it ends with what has been appended so far. */
  deviceState(): DeviceStateResult {
    return this.#check.result();
  }

  /**
   * Adds to what the manifest will say of how the VM came here; at any time before {@link commit}. Without a `completeness` the
   * manifest says what {@link deviceState} found.
   */
  setProvenance(provenance: Partial<Provenance>): void {
    this.#provenance = { ...this.#provenance, ...provenance };
  }

  /**
   * Makes everything durable, then gives it its name. The RAM stays mapped until {@link close}: a connection may still have
   * it registered.
   * @throws MigrationError IMAGE_EXISTS: another writer was first. DISK_FULL, IO_ERROR. COMMIT_UNKNOWN: the image has its name and may not be
   *   durable.
   */
  commit(arrival?: Arrival): Promise<void> {
    return this.#step('completing the image', async () => {
      if (arrival !== undefined) this.setProvenance(arrival);
      const { vm, after } = this.#allocated();
      // What is in memory is read while it is written.
      const [blocks] = await Promise.all([this.#store.describe(this.#digests), this.#store.sync()]);
      this.#throwIfAborting();
      await after.sync();
      await this.#closeAfter();
      const manifest = serializeManifest(await this.#manifest(vm, blocks));
      this.#throwIfAborting();
      await createDurable(join(this.#partial, MANIFEST_FILE), Buffer.from(manifest));
      await syncDirectory(this.#partial);
      this.#throwIfAborting();
      await this.#publish();
      this.#ended = 'committed';
    });
  }

  /** Undoes everything unless the image has been committed, and closes. Idempotent; never throws. */
  abort(): Promise<void> {
    this.#aborting ??= this.#steps.then(async () => {
      this.#ended ??= 'aborted';
      await this.#discard();
      await this.#store.close().catch(() => undefined);
    });
    return this.#aborting;
  }

  /** Unmaps the RAM. An image that has not been committed is undone. Idempotent. */
  close(): Promise<void> {
    return this.abort();
  }

  /** The same as `abort`: nothing after a commit. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.abort();
  }

  /** One step at a time; after one has failed nothing else is done, and what was written is removed. */
  #step<T>(action: string, work: () => Promise<T>): Promise<T> {
    const result = this.#steps.then(async () => {
      this.#throwIfAborting();
      if (this.#ended !== undefined) throw misuse(`${action}: the image is ${this.#ended} already`);
      if (this.#failure !== undefined) throw this.#failure;
      try {
        return await work();
      } catch (error) {
        this.#failure = imageError(error, action);
        // The files are removed now; the mappings stay until abort: a connection may still write into them.
        await this.#discard();
        throw this.#failure;
      }
    });
    this.#steps = result.catch(() => undefined);
    return result;
  }

  #allocated(): { vm: ReceivedVm; after: FileHandle } {
    if (this.#vm === undefined || this.#after === undefined) throw misuse('allocate comes first');
    return { vm: this.#vm, after: this.#after };
  }

  #wholeProvenance(): Provenance {
    const completeness = this.deviceState().complete ? 'vmdescription' : 'none';
    return { origin: 'migration', completeness, ...this.#provenance };
  }

  async #manifest(vm: ReceivedVm, blocks: ManifestBlock[]): Promise<Manifest> {
    const digestOf = (digest: StreamDigest) => this.#digests && { digest: digest.text() };
    const before = new StreamDigest().push(vm.before);
    return {
      format: MANIFEST_FORMAT,
      version: MANIFEST_VERSION,
      tool: `rdma-migrate ${await toolVersion()}`,
      created: new Date().toISOString(),
      machine: vm.layout.machine,
      pageSize: vm.layout.pageSize,
      ramSection: { sectionId: vm.ramSection.sectionId, instanceId: vm.ramSection.instanceId },
      blocks,
      before: { file: BEFORE_FILE, length: BigInt(vm.before.length), ...digestOf(before) },
      after: { file: AFTER_FILE, length: this.#afterLength, ...digestOf(this.#afterDigest) },
      provenance: this.#wholeProvenance(),
    };
  }

  async #publish(): Promise<void> {
    if (await exists(this.path)) throw imageExists(this.path);
    try {
      await rename(this.#partial, this.path);
    } catch (cause) {
      // rename(2) replaces only an empty directory.
      if (['ENOTEMPTY', 'EEXIST', 'ENOTDIR'].includes(codeOf(cause) ?? ''))
        throw imageExists(this.path, cause);
      throw cause;
    }
    try {
      await syncDirectory(dirname(this.path));
    } catch (error) {
      // Not durable is not committed: rename it back to a name that abort removes.
      await rename(this.path, this.#partial).catch(() => {
        this.#ended = 'committed'; // nothing is removed any more
        throw namedButNotDurable(this.path, error);
      });
      throw error;
    }
    // Only now: until the rename these say whether a partial directory may be removed, and what goes with it.
    for (const file of [OWNER_FILE, OUTSIDE_FILE])
      await rm(join(this.path, file), { force: true }).catch(() => undefined);
  }

  /** Removes what was written. Never throws; does nothing to a committed image. */
  async #discard(): Promise<void> {
    await this.#closeAfter().catch(() => undefined);
    if (this.#ended === 'committed') return;
    await this.#store.removeFiles();
    await removePartial(this.#partial).catch(() => undefined);
  }

  async #closeAfter(): Promise<void> {
    const after = this.#after;
    this.#after = undefined;
    await after?.close();
  }

  #throwIfAborting(): void {
    if (this.#aborting === undefined) return;
    throw new MigrationError('CANCELLED', 'image', `the image ${this.path} was aborted`);
  }
}

interface Paths {
  readonly image: string;
  readonly partial: string;
  readonly removed: readonly string[];
  readonly abandoned: Abandoned | undefined;
}

function exists(path: string): Promise<boolean> {
  return lstat(path).then(
    () => true,
    (error: unknown) => {
      if (codeOf(error) === 'ENOENT') return false;
      throw imageError(error, `looking for ${path}`);
    },
  );
}

function imageExists(path: string, cause?: unknown): MigrationError {
  const message = `${path} exists: an image is never overwritten. Name another path or move it away`;
  return new MigrationError('IMAGE_EXISTS', 'image', message, { cause });
}

function namedButNotDurable(path: string, cause: unknown): MigrationError {
  const why = cause instanceof Error ? cause.message : String(cause);
  const message =
    `the image ${path} is complete and has its name, but the folder could not be synced (${why}) and the name could not be taken back: it ` +
    'may be gone after a crash of this host. Look at it, and at the disk, before the VM goes on anywhere';
  return new MigrationError('COMMIT_UNKNOWN', 'image', message, { cause });
}

function noParent(path: string): MigrationError {
  const message = `the image ${path} cannot be made: ${dirname(path)} does not exist. Create it first`;
  return new MigrationError('INVALID_ARGUMENT', 'image', message);
}

function misuse(what: string): MigrationError {
  return new MigrationError('CLOSED', 'image', `image writer: ${what}`);
}
