/**
 * What a VMM of its own writes around its RAM so that its VM travels in QEMU's stream: the beginning, and device state with an end that proves
 * that it is whole (QEMU, docs/devel/migration: "Stream structure").
 */
import { MigrationError } from '../errors.ts';
import {
  DEFAULT_PAGE_SIZE,
  SECTION,
  STREAM_MAGIC,
  STREAM_VERSION,
  SUBSECTION_PAGE_BITS,
} from './stream-format.ts';
import { DESCRIPTION_MAX_BYTES } from './tail.ts';
import { Writer } from './writer.ts';

/** A machine name and the names of devices: what QEMU's stream can hold of them. */
const NAME = /^[\x20-\x7e]{1,255}$/;
const U32_MAX = 2 ** 32 - 1;
/** Any number does; QEMU counts up from 0 and has its RAM at 2. */
const FIRST_SECTION_ID = 3;

/** A device's state, opaque on its way. */
export interface DeviceState {
  /** 1 to 255 printable ASCII characters. */
  readonly name: string;
  /** Tells devices of one name apart. Default 0. */
  readonly instanceId?: number;
  /** Of the state's format, the VMM's own. Default 1. */
  readonly version?: number;
  readonly state: Uint8Array;
}

/**
 * The beginning of the stream, {@link SourceVm.before} of a VMM of its own: magic, version 3, CONFIGURATION with the machine's name.
 * @param vm `machine`: what both ends compare, 1 to 255 printable ASCII characters. `pageSize`: bytes, a power of two from 1024 to 65536;
 *   default 4096
 * @throws MigrationError INVALID_ARGUMENT
 */
export function streamHeader(vm: { readonly machine: string; readonly pageSize?: number }): Uint8Array {
  const { machine, pageSize = DEFAULT_PAGE_SIZE } = vm;
  checkName(machine, 'the machine');
  const bits = pageBits(pageSize);
  const writer = new Writer(64).u32(STREAM_MAGIC).u32(STREAM_VERSION).u8(SECTION.CONFIGURATION);
  writer.u32(machine.length).bytes(Buffer.from(machine, 'latin1'));
  // QEMU leaves the subsection out where the target has 4 KiB pages only.
  if (pageSize === DEFAULT_PAGE_SIZE) return writer.finish();
  writer.u8(SECTION.SUBSECTION).u8(SUBSECTION_PAGE_BITS.length);
  return writer.bytes(Buffer.from(SUBSECTION_PAGE_BITS, 'latin1')).u32(1).u32(bits).finish();
}

/**
 * The device state of a VMM of its own, {@link SourceVm.after}: a FULL section for each device in this order, the end of the stream, and
 * QEMU's description of what the stream holds, by which a destination knows that nothing is missing. Without devices it is that end alone.
 * {@link openDeviceState} gives the devices back.
 * @param vm `pageSize`: as for {@link streamHeader}
 * @throws MigrationError INVALID_ARGUMENT: a name, a number, two devices with one name and instance, or more names than a destination reads
 */
export function sealDeviceState(
  vm: { readonly pageSize?: number; readonly devices?: readonly DeviceState[] } = {},
): Uint8Array {
  const { pageSize = DEFAULT_PAGE_SIZE, devices = [] } = vm;
  pageBits(pageSize);
  const writer = new Writer(devices.reduce((sum, { state }) => sum + state.length + 300, 300));
  const described = devices.map((device, index) => writeDevice(writer, device, FIRST_SECTION_ID + index));
  const labels = new Set<string>();
  for (const { name, instance_id } of described) {
    if (labels.has(`${instance_id} ${name}`))
      throw invalid(`two devices are ${name} with instanceId ${instance_id}: give each one of its own`);
    labels.add(`${instance_id} ${name}`);
  }
  const description = Buffer.from(JSON.stringify({ page_size: pageSize, devices: described }));
  if (description.length > DESCRIPTION_MAX_BYTES)
    throw invalid(
      `the description of ${devices.length} devices has ${description.length} bytes, of ${DESCRIPTION_MAX_BYTES} at most`,
    );
  return writer.u8(SECTION.EOF).u8(SECTION.VMDESCRIPTION).u32(description.length).bytes(description).finish();
}

interface DescribedDevice {
  readonly name: string;
  readonly instance_id: number;
  readonly version: number;
  /** Ours alone: bytes of the state, which QEMU describes field by field. */
  readonly size: number;
}

function writeDevice(writer: Writer, device: DeviceState, id: number): DescribedDevice {
  const { name, instanceId = 0, version = 1, state } = device;
  checkName(name, 'a device');
  for (const [what, value] of Object.entries({ instanceId, version }))
    if (!isU32(value))
      throw invalid(`expected an integer from 0 to ${U32_MAX} for ${what} of ${name} but received ${value}`);
  writer.u8(SECTION.FULL).u32(id).u8(name.length).bytes(Buffer.from(name, 'latin1'));
  writer.u32(instanceId).u32(version).bytes(state).u8(SECTION.FOOTER).u32(id);
  return { name, instance_id: instanceId, version, size: state.length };
}

/**
 * The devices of a device state that {@link sealDeviceState} made, as it arrived in all its pieces. The states are views of `bytes`. What is
 * in them is the peer's: check it.
 * @throws MigrationError STREAM_TRUNCATED: it does not end with its description. STREAM_ERROR: it is something else, such as QEMU's own
 */
export function openDeviceState(bytes: Uint8Array): readonly Required<DeviceState>[] {
  const { devices, end } = readDescription(bytes);
  const found: Required<DeviceState>[] = [];
  let at = 0;
  for (const device of devices) {
    const start = startOf(bytes, at, device);
    const stop = start + device.size;
    if (stop + FOOTER_BYTES > end || bytes[stop] !== SECTION.FOOTER)
      throw broken(`${device.name} is not where it should be`);
    const { name, version, instance_id: instanceId } = device;
    found.push({ name, instanceId, version, state: bytes.subarray(start, stop) });
    at = stop + FOOTER_BYTES;
  }
  if (at !== end) throw broken(`${end - at} bytes that its description does not list`);
  return found;
}

const FOOTER_BYTES = 5;

/** Where the device's state starts: after its header, which must be the described one's. */
function startOf(bytes: Uint8Array, at: number, { name, instance_id, version }: DescribedDevice): number {
  const header = new Writer(32)
    .u8(name.length)
    .bytes(Buffer.from(name, 'latin1'))
    .u32(instance_id)
    .u32(version)
    .finish();
  const start = at + 5 + header.length;
  const isHeader =
    bytes[at] === SECTION.FULL && header.every((byte, index) => byte === bytes[at + 5 + index]);
  if (!isHeader) throw broken(`${name} is not where it should be`);
  return start;
}

/** `end`: where the sections end and the end of the stream stands. */
function readDescription(bytes: Uint8Array): { devices: readonly DescribedDevice[]; end: number } {
  const at = descriptionAt(bytes);
  if (at === undefined)
    throw new MigrationError(
      'STREAM_TRUNCATED',
      'device-state',
      'the device state does not end with its description: something is missing at its end',
    );
  const devices = parse(bytes.subarray(at + PREFIX_BYTES));
  if (devices === undefined) throw broken('a description without the sizes of its devices');
  return { devices, end: at - 1 };
}

/** Section type and length, u32, before the JSON. */
const PREFIX_BYTES = 5;

function descriptionAt(bytes: Uint8Array): number | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  let from = bytes.length - PREFIX_BYTES;
  // JSON has no control characters: what looks like the type is the type, or one of the four bytes of the length.
  for (let tries = 0; tries < PREFIX_BYTES && from > 0; tries++) {
    const at = bytes.lastIndexOf(SECTION.VMDESCRIPTION, from);
    if (at < 1) return undefined;
    if (bytes[at - 1] === SECTION.EOF && view.getUint32(at + 1) === bytes.length - at - PREFIX_BYTES)
      return at;
    from = at - 1;
  }
  return undefined;
}

function parse(json: Uint8Array): readonly DescribedDevice[] | undefined {
  try {
    const { devices } = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json)) as {
      devices: unknown;
    };
    return Array.isArray(devices) && devices.every(isDescribed) ? devices : undefined;
  } catch {
    return undefined;
  }
}

function isDescribed(value: unknown): value is DescribedDevice {
  if (typeof value !== 'object' || value === null) return false;
  const { name, instance_id, version, size } = value as Partial<Record<keyof DescribedDevice, unknown>>;
  return (
    typeof name === 'string' &&
    NAME.test(name) &&
    isU32(instance_id) &&
    isU32(version) &&
    Number.isSafeInteger(size) &&
    (size as number) >= 0
  );
}

const isU32 = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 0 && (value as number) <= U32_MAX;

function pageBits(pageSize: number): number {
  const bits = Math.log2(pageSize);
  if (Number.isInteger(bits) && bits >= 10 && bits <= 16) return bits;
  throw invalid(`expected a power of two from 1024 to 65536 for pageSize but received ${pageSize}`);
}

function checkName(name: string, what: string): void {
  if (typeof name === 'string' && NAME.test(name)) return;
  throw invalid(
    `expected 1 to 255 printable ASCII characters for the name of ${what} but received ${JSON.stringify(name)}`,
  );
}

function broken(what: string): MigrationError {
  return new MigrationError(
    'STREAM_ERROR',
    'device-state',
    `the device state is not one of sealDeviceState: ${what}`,
  );
}

const invalid = (message: string): MigrationError =>
  new MigrationError('INVALID_ARGUMENT', 'configure', message);
