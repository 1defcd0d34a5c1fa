/** Options of the image functions. */
import type { MigrationError } from '../errors.ts';
import type { Provenance } from './manifest.ts';
import type { OnProgress } from './progress.ts';
import type { RamPaths, RamPlacement } from './ram-store.ts';

/** Of `openImage()`. */
export interface OpenImageOptions {
  /** Where blocks outside the image are: each must be named, the manifest's word opens nothing. Absolute paths. */
  readonly ramFiles?: RamPaths;
  readonly signal?: AbortSignal;
}

/** Of `ImageReader.verify()`. */
export interface VerifyOptions {
  readonly signal?: AbortSignal;
  /** Four times a second while RAM is read. */
  readonly onProgress?: OnProgress;
}

/** Of `Departure.of()`. */
export interface DepartureOptions {
  /** Where the destination listens, for the mark: text without control characters, at most 512. */
  readonly to: string;
  /** Also where the image says that it was sent before, or may have been. Default false. */
  readonly again?: boolean;
  /** The mark could not be put there, or not be brought up to date (PERMISSION_DENIED, DISK_FULL, IO_ERROR); the migration goes on. */
  readonly onUnmarked?: (error: MigrationError) => void;
}

/** Of `inspect()`. */
export type InspectOptions = Pick<OpenImageOptions, 'ramFiles'>;

/** Of `ImageWriter.open()`. */
export interface ImageWriterOptions extends RamPlacement {
  /** What is known of how the VM came here; `ImageWriter.setProvenance()` adds to it. Default: origin `migration`. */
  readonly provenance?: Partial<Provenance>;
  /**
   * Records digests of RAM and device state, for `ImageReader.verify()`: reads all of RAM once more at commit, while it is written to the disk.
   * Default false.
   */
  readonly digests?: boolean;
  /**
   * Keeps the RAM that a process which died has left of an image of that name until a source comes: one that continues goes on from it, for any other it is removed. Default
   * false: it is removed at once.
   */
  readonly continues?: boolean;
}

/** Of `writeQemuStream()`. */
export interface WriteQemuStreamOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
  /**
   * Blocks whose pages are left out because the QEMU that loads the stream maps their file itself (migration capability
   * x-ignore-shared, which must then be on there).
   */
  readonly ignoreShared?: readonly string[];
  /** Guest-physical addresses of ignored blocks for which the VM gives none; QEMU's `pc.ram` has 0. */
  readonly guestAddresses?: Readonly<Record<string, bigint>>;
}

/** Of `toQemu()`. */
export interface ToQemuOptions extends WriteQemuStreamOptions {
  /** As for `openImage()`; ignored blocks are named too. */
  readonly ramFiles?: RamPaths;
}

/** Of `readQemuStream()`. */
export interface ReadQemuStreamOptions {
  readonly signal?: AbortSignal;
  /** For a stream made with x-ignore-shared: the blocks whose pages are not in it. Default: none. */
  readonly shared?: readonly string[];
}

/** Of `fromQemu()`. */
export interface FromQemuOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: OnProgress;
  /** Blocks whose file is created at this absolute path instead of inside the image. */
  readonly ramFiles?: RamPaths;
  /** For a stream made with x-ignore-shared: the existing files of the blocks whose pages are not in it. Mapped in place. */
  readonly sharedRam?: RamPaths;
  /** The length of the stream, if known: a stream that does not fit is refused before any page is read. */
  readonly streamBytes?: bigint;
  /** Accepts a stream that nothing proves to be whole: without the VMDESCRIPTION at its end. Default false. */
  readonly acceptUnproven?: boolean;
  /** As of `ImageWriter.open()`. Default false. */
  readonly digests?: boolean;
}
