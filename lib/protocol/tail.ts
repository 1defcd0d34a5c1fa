/**
 * Whether device state, the bytes after the END of ram, is whole. A v1 source gives no sign that it has finished, it just
 * disconnects; but QEMU ends its stream with a description of itself:
 *
 *     FULL section (any number) | EOF 0x00 | VMDESCRIPTION 0x06, len u32, JSON of len bytes | nothing
 *
 * The JSON lists the devices in the order of their FULL sections.
 */
import type { GapCause } from '../ram/coverage.ts';
import { ByteSearch } from './byte-search.ts';
import { RollingWindow } from './rolling-window.ts';
import { type DeviceName, SectionScan } from './section-scan.ts';
import { SECTION } from './stream-format.ts';

/**
 * Longest description accepted. QEMU writes about 100 KiB for a small PC and some 20 KiB for each further CPU, so this is
 * far beyond its largest VMs, and small compared with RAM.
 */
export const DESCRIPTION_MAX_BYTES = 16 * 1024 * 1024;
/**
 * The subsection that QEMU's balloon writes once its guest reports free pages (type, length, name). It is within the device's body
 * only, which the description leaves out.
 */
const FREE_PAGE_HINT = Buffer.from('\x05\x26virtio-balloon-device/free-page-report', 'latin1');
/** The name of a virtio-mem device ends with this, after the device's path. */
const VIRTIO_MEM = /(^|\/)virtio-mem$/;
/** Section type and length, u32, before the JSON. */
const PREFIX_BYTES = 5;
const JSON_END = '}'.charCodeAt(0);
/**
 * JSON has no control characters, so the last byte with the value of the section type is that type, or
 * one of the 4 bytes of the length after it.
 */
const CANDIDATES = 5;

/** What QEMU's description at the end of its stream says of the VM. A peer's word. */
export interface VmDescription {
  /** Bytes. */
  readonly pageSize: number;
  readonly devices: readonly DeviceName[];
}

/** Whether a stream's device state is whole, as far as its end shows (QEMU, docs/devel/migration: "Stream structure"). */
export type DeviceStateResult =
  | {
      readonly complete: true;
      readonly description: VmDescription;
      /** What this VM has that lets QEMU leave pages out of its stream. Absent: nothing. */
      readonly mayLeaveOut?: readonly GapCause[];
      readonly reason?: never;
    }
  /** `reason` completes "The device state is not whole: ...". */
  | { readonly complete: false; readonly reason: string };

/**
 * Takes device state in pieces of any size and keeps the last 16 MiB at most. Data that only looks like sections can hide a
 * missing one, so a result of complete speaks against truncation and loss, not against forgery.
 */
export class DeviceStateCheck {
  readonly #scan = new SectionScan();
  /** Where the description may begin, the last first. */
  #candidates: readonly number[] = [];
  readonly #hints = new ByteSearch(FREE_PAGE_HINT);
  readonly #window = new RollingWindow(DESCRIPTION_MAX_BYTES, (block) => this.#scan.push(block));

  push(bytes: Uint8Array): void {
    const found = lastPlaces(bytes, SECTION.VMDESCRIPTION, CANDIDATES).map((at) => this.#window.end + at);
    this.#candidates = [...found, ...this.#candidates].slice(0, CANDIDATES);
    this.#window.push(bytes);
    this.#hints.push(bytes);
  }

  /**
   * Whether the device state is whole if it ends here. May be called after every piece: unless
   * it ends like a description, that costs next to nothing.
   */
  result(): DeviceStateResult {
    const json = this.#description();
    if (json === undefined) {
      return incomplete(
        'it does not end with the description of the VM. The source stopped early, or its machine type has suppress-vmdesc=on',
      );
    }
    const description = parseDescription(json);
    if (description === undefined) return incomplete('the description of the VM at its end is damaged');
    if (this.#scan.contains(description.devices, this.#window.unfinished) === false) {
      return incomplete('devices that the description of the VM lists are missing or in another order');
    }
    const mayLeaveOut = this.#gapCauses(description);
    return { complete: true, description, ...(mayLeaveOut.length > 0 && { mayLeaveOut }) };
  }

  #gapCauses({ devices }: VmDescription): GapCause[] {
    const causes: GapCause[] = [];
    if (this.#hints.found) causes.push('free-page-hint');
    if (devices.some(({ name }) => VIRTIO_MEM.test(name))) causes.push('virtio-mem');
    return causes;
  }

  /** The JSON's bytes: they reach exactly to the end, and the prefix gives their length. */
  #description(): Uint8Array | undefined {
    const { start, end } = this.#window;
    if (end === 0 || this.#window.at(end - 1) !== JSON_END) return undefined;
    const at = this.#candidates.find((place) => {
      const json = place + PREFIX_BYTES;
      if (place - 1 < start || json >= end || this.#window.at(place - 1) !== SECTION.EOF) return false;
      return this.#u32(place + 1) === end - json;
    });
    return at === undefined ? undefined : this.#window.from(at + PREFIX_BYTES);
  }

  #u32(at: number): number {
    return [0, 1, 2, 3].reduce((value, i) => value * 256 + this.#window.at(at + i), 0);
  }
}

function lastPlaces(bytes: Uint8Array, value: number, count: number): number[] {
  const places: number[] = [];
  for (let end = bytes.length; places.length < count; ) {
    const at = bytes.subarray(0, end).lastIndexOf(value);
    if (at < 0) break;
    places.push(at);
    end = at;
  }
  return places;
}

function incomplete(reason: string): DeviceStateResult {
  return { complete: false, reason };
}

function parseDescription(bytes: Uint8Array): VmDescription | undefined {
  const json = parseJson(bytes);
  if (!isRecord(json) || !isCount(json.page_size) || !Array.isArray(json.devices)) return undefined;
  const devices: DeviceName[] = [];
  for (const device of json.devices as unknown[]) {
    if (!isRecord(device) || typeof device.name !== 'string' || !isCount(device.instance_id))
      return undefined;
    devices.push({ name: device.name, instanceId: device.instance_id });
  }
  return { pageSize: json.page_size, devices };
}

function parseJson(bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch {
    return undefined;
  }
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function isCount(value: unknown): value is number {
  return Number.isInteger(value) && (value as number) >= 0;
}
