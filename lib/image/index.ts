/** A VM on disk: a directory with a manifest, one sparse file per RAM block, and the QEMU stream before and after RAM. */

export type { OwnerState } from '../owner.ts';
export { Departure } from './departure.ts';
export { type FromQemuResult, fromQemu } from './from-qemu.ts';
export { type BlockInspection, type ImageInspection, inspect, inspectionToJson } from './inspect.ts';
export { findLeftovers, type Leftover, removeLeftover } from './leftovers.ts';
export type { Completeness, Manifest, Provenance } from './manifest.ts';
export type {
  DepartureOptions,
  FromQemuOptions,
  ImageWriterOptions,
  InspectOptions,
  OpenImageOptions,
  ReadQemuStreamOptions,
  ToQemuOptions,
  VerifyOptions,
  WriteQemuStreamOptions,
} from './options.ts';
export { findPartials, type PartialImage, removeDeadPartials } from './partial.ts';
export type { ImageProgress, OnProgress } from './progress.ts';
export type { QemuStreamFacts, QemuStreamTarget } from './qemu-stream-import.ts';
export type { RamPaths, RamPlacement } from './ram-store.ts';
export { readQemuStream } from './read-qemu-stream.ts';
export { type ImageReader, openImage } from './reader.ts';
export type { SentMark } from './sent-mark.ts';
export { type ToQemuResult, toQemu } from './to-qemu.ts';
export type { ImageVerification, VerifiedPart } from './verify.ts';
export {
  type QemuStreamVm,
  type WriteQemuStreamResult,
  writeQemuStream,
} from './write-qemu-stream.ts';
export { ImageWriter } from './writer.ts';
