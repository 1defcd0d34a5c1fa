/** Every option of the image functions, checked before anything is opened. */
import { check } from '../options/check.ts';
import {
  boolean,
  bytes,
  field,
  fn,
  listOf,
  objectWith,
  optionsOf,
  paths,
  type ShapeOf,
  signal,
  text,
} from '../options/fields.ts';
import type {
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

const addresses = field(
  'an object of addresses as bigint by the names of RAM blocks',
  (value) =>
    typeof value === 'object' &&
    value !== null &&
    Object.values(value).every((address) => typeof address === 'bigint' && address >= 0n),
);

const OPEN = { ramFiles: paths, signal } satisfies ShapeOf<OpenImageOptions>;

const VERIFY = { signal, onProgress: fn } satisfies ShapeOf<VerifyOptions>;

const DEPARTURE = { to: text, again: boolean, onUnmarked: fn } satisfies ShapeOf<DepartureOptions>;

const INSPECT = { ramFiles: paths } satisfies ShapeOf<InspectOptions>;

const WRITER = {
  ramFiles: paths,
  sharedRam: paths,
  provenance: objectWith({}),
  digests: boolean,
  continues: boolean,
  streamBytes: bytes(0n),
} satisfies ShapeOf<ImageWriterOptions>;

const FROM_QEMU = {
  signal,
  onProgress: fn,
  ramFiles: paths,
  sharedRam: paths,
  acceptUnproven: boolean,
  digests: boolean,
  streamBytes: bytes(0n),
} satisfies ShapeOf<FromQemuOptions>;

const READ_STREAM = { signal, shared: listOf(text) } satisfies ShapeOf<ReadQemuStreamOptions>;

const WRITE_STREAM = {
  signal,
  onProgress: fn,
  ignoreShared: listOf(text),
  guestAddresses: addresses,
} satisfies ShapeOf<WriteQemuStreamOptions>;

const TO_QEMU = { ...WRITE_STREAM, ramFiles: paths } satisfies ShapeOf<ToQemuOptions>;

const SCHEMAS = {
  open: optionsOf(OPEN),
  verify: optionsOf(VERIFY),
  departure: optionsOf(DEPARTURE),
  inspect: optionsOf(INSPECT),
  writer: optionsOf(WRITER),
  fromQemu: optionsOf(FROM_QEMU),
  readStream: optionsOf(READ_STREAM),
  writeStream: optionsOf(WRITE_STREAM),
  toQemu: optionsOf(TO_QEMU),
};

/** @throws MigrationError INVALID_ARGUMENT */
export function checkImageOptions(of: keyof typeof SCHEMAS, options: object): void {
  check({ schema: SCHEMAS[of] }, options);
}
