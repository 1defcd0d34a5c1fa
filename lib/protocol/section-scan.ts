import { SECTION } from './stream-format.ts';

/** Footer of the section before, type, id, name and its length, instance, version. */
const HEADER_MAX_BYTES = 5 + 1 + 4 + 1 + 255 + 4 + 4;
/** A large VM has some thousands of devices. More than this is data that only resembles headers. */
const SECTIONS_MAX = 65_536;

/** A device as sections and the VM description name it. */
export interface DeviceName {
  readonly name: string;
  readonly instanceId: number;
}

/**
 * Finds what looks like headers of FULL sections in device state, whose bodies nothing but QEMU can skip: a FOOTER (or the
 * beginning of the device state) followed by a FULL header with a printable name. Data can look the same by chance, so it
 * finds every section in order and perhaps some that are not sections.
 */
export class SectionScan {
  readonly #sections: string[] = [];
  #pending = new Uint8Array(0);
  #scanned = 0;

  /** Next piece of the device state; headers may be cut anywhere. */
  push(bytes: Uint8Array): void {
    const joined = Buffer.concat([this.#pending, bytes]);
    const end = Math.max(0, joined.length - HEADER_MAX_BYTES);
    for (const section of findSections(joined, end, this.#scanned === 0)) {
      if (this.#sections.length < SECTIONS_MAX) this.#sections.push(section);
    }
    this.#scanned += end;
    this.#pending = joined.subarray(end).slice();
  }

  /**
   * Whether the sections so far, with `rest` after what was pushed, contain these devices in this order. `undefined`: there
   * was more that looks like sections than is kept.
   */
  contains(devices: readonly DeviceName[], rest: Uint8Array): boolean | undefined {
    if (this.#sections.length === SECTIONS_MAX) return undefined;
    const joined = Buffer.concat([this.#pending, rest]);
    const last = findSections(joined, joined.length, this.#scanned === 0);
    let next = 0;
    for (const section of [...this.#sections, ...last]) {
      const device = devices[next];
      if (device !== undefined && section === label(device.name, device.instanceId)) next += 1;
    }
    return next === devices.length;
  }
}

/** Sections whose footer before them is in the first `end` bytes. `beginning`: a section may begin at 0 without one. */
function findSections(bytes: Uint8Array, end: number, beginning: boolean): string[] {
  // Every byte of the device state passes here, so the loop reads no property of another module.
  const { FOOTER, FULL } = SECTION;
  const found = [beginning && end > 0 ? sectionAt(bytes, 0) : undefined];
  for (let at = 0; at < end; at++) {
    if (bytes[at] === FOOTER && bytes[at + 5] === FULL) found.push(sectionAt(bytes, at + 5));
  }
  return found.filter((section) => section !== undefined);
}

function sectionAt(bytes: Uint8Array, at: number): string | undefined {
  const nameLength = bytes[at + 5] ?? 0;
  const afterName = at + 6 + nameLength;
  if (bytes[at] !== SECTION.FULL || nameLength === 0 || afterName + 8 > bytes.length) return undefined;
  const name = bytes.subarray(at + 6, afterName);
  if (name.some((byte) => byte < 0x20)) return undefined;
  const instanceId = new DataView(bytes.buffer, bytes.byteOffset).getUint32(afterName);
  return label(Buffer.from(name).toString('utf8'), instanceId);
}

function label(name: string, instanceId: number): string {
  return `${instanceId} ${name}`;
}
