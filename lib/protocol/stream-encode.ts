/**
 * Pieces of QEMU's migration stream, each as QEMU flushes it.
 *
 *     rdma:   before + encodeRamStart     hook   encodeEos   encodeFooter + encodeRamRound    hook   encodeEos ...
 *     pages:  before + encodeRamStart     encodeRamHeader   page records   encodeEos + encodeFooter ...
 *
 * After the footer of ram's END comes the device state, as it was kept.
 */
import { MigrationError } from '../errors.ts';
import type { RamBlockLayout, RamSection } from '../ram/vm.ts';
import { parseConfiguration } from './stream-configuration.ts';
import {
  CAPABILITY_IGNORE_SHARED,
  RAM_FLAG,
  RAM_SECTION_NAME,
  RAM_SECTION_VERSION,
  SECTION,
  type StreamForm,
  SUBSECTION_CAPABILITIES,
} from './stream-format.ts';
import { Writer } from './writer.ts';

/**
 * The START of the ram section. `rdma`: up to and including the HOOK, where QEMU flushes and serves control messages; EOS and footer
 * are still to be sent. `pages`: whole, with EOS and footer.
 *
 * `guestAddresses`: writes every block's guest-physical address, as x-ignore-shared requires; `before` must then have that
 * capability ({@link withCapabilities}). Throws INVALID_ARGUMENT when there are no blocks, or one has no address.
 */
export function encodeRamStart(
  section: RamSection,
  blocks: readonly RamBlockLayout[],
  form: StreamForm,
  options: { readonly guestAddresses?: boolean } = {},
): Uint8Array {
  if (blocks.length === 0) throw invalid('Expected at least one RAM block but received none');
  const writer = new Writer(1024).u8(SECTION.START).u32(section.sectionId);
  writeName(writer, RAM_SECTION_NAME).u32(section.instanceId).u32(RAM_SECTION_VERSION);
  writer.u64(blocks.reduce((sum, block) => sum + block.length, 0n) + RAM_FLAG.MEM_SIZE);
  for (const block of blocks) writeBlock(writer, block, options.guestAddresses ?? false);
  if (form === 'rdma') return writer.u64(RAM_FLAG.HOOK).finish();
  return writer.u64(RAM_FLAG.EOS).bytes(encodeFooter(section)).finish();
}

/** Type and id of a PART or END of the ram section, 5 bytes. Form `pages`: page records follow. */
export function encodeRamHeader(section: RamSection, kind: 'part' | 'end'): Uint8Array {
  return new Writer(5)
    .u8(kind === 'part' ? SECTION.PART : SECTION.END)
    .u32(section.sectionId)
    .finish();
}

/** Form `rdma`: a PART or END up to and including its HOOK, 13 bytes. */
export function encodeRamRound(section: RamSection, kind: 'part' | 'end'): Uint8Array {
  return new Writer(13).bytes(encodeRamHeader(section, kind)).u64(RAM_FLAG.HOOK).finish();
}

/** End of the body of a ram section, 8 bytes. */
export function encodeEos(): Uint8Array {
  return new Writer(8).u64(RAM_FLAG.EOS).finish();
}

/** FOOTER of a section, 5 bytes. */
export function encodeFooter(section: RamSection): Uint8Array {
  return new Writer(5).u8(SECTION.FOOTER).u32(section.sectionId).finish();
}

/**
 * `before` followed by the subsection `configuration/capabilities`, where QEMU writes it: a destination with x-ignore-shared
 * checks it. Throws what {@link parseConfiguration} throws, and INVALID_ARGUMENT if there is one already.
 */
export function withCapabilities(
  before: Uint8Array,
  capabilities: readonly string[] = [CAPABILITY_IGNORE_SHARED],
): Uint8Array {
  if (parseConfiguration(before).capabilities.length > 0) {
    throw invalid('The migration stream already names its capabilities');
  }
  const writer = new Writer(before.length + 128).bytes(before).u8(SECTION.SUBSECTION);
  writeName(writer, SUBSECTION_CAPABILITIES).u32(1).u32(capabilities.length);
  for (const name of capabilities) writeName(writer, name);
  return writer.finish();
}

function writeBlock(writer: Writer, block: RamBlockLayout, guestAddresses: boolean): void {
  writeName(writer, block.name).u64(block.length);
  if (!guestAddresses) return;
  if (block.guestAddress === undefined) {
    throw invalid(
      `RAM block ${block.name} has no guest-physical address: it was not received with x-ignore-shared`,
    );
  }
  writer.u64(block.guestAddress);
}

function writeName(writer: Writer, name: string): Writer {
  if (!/^[\x20-\x7e]{1,255}$/.test(name)) {
    throw invalid(
      `Expected a name of 1 to 255 printable ASCII characters but received ${JSON.stringify(name)}`,
    );
  }
  return writer.u8(name.length).bytes(Buffer.from(name, 'latin1'));
}

function invalid(message: string): MigrationError {
  return new MigrationError('INVALID_ARGUMENT', 'ram', message);
}
