/**
 * The header of a file of libvirt's `virsh save` and `managedsave` (src/qemu/qemu_saveimage.h of libvirt):
 *
 *     magic 16 | version u32 | length u32 | was running u32 | format u32 | cookie's offset u32 | unused 14 u32
 *     the domain's XML and libvirt's cookie, `length` bytes | the QEMU stream, perhaps compressed
 *
 * Numbers are in the byte order of the machine that wrote it, which the version reveals.
 */
import { MigrationError } from '../errors.ts';

export const SAVE_MAGIC = Buffer.from('LibvirtQemudSave');
export const SAVE_HEADER_BYTES = 92;

const VERSIONS = [1, 2];
/** The XML of a large domain has some hundred KiB; libvirt pads it a little. */
const MAX_XML_BYTES = 64 << 20;

/** How the stream is packed, by the header's number. `raw`: not at all. */
const FORMATS = ['raw', 'gzip', 'bzip2', 'xz', 'lzop', 'zstd', 'sparse'] as const;

export interface LibvirtSave {
  /** The VM was running when it was saved: libvirt would let it run again. In the stream itself it is paused. */
  readonly wasRunning: boolean;
  /** Where in the file the QEMU stream begins. */
  readonly dataOffset: number;
}

/** @throws MigrationError STREAM_ERROR: damaged, or the stream is compressed; the message has the command that helps */
export function readSaveHeader(bytes: Uint8Array): LibvirtSave {
  const view = new DataView(bytes.buffer, bytes.byteOffset, SAVE_HEADER_BYTES);
  const order = [true, false].find((little) => VERSIONS.includes(view.getUint32(16, little)));
  if (order === undefined) throw bad(`version ${view.getUint32(16, true)} of its header, expected 2`);
  const length = view.getUint32(20, order);
  if (length === 0 || length > MAX_XML_BYTES) {
    throw bad(`${length} bytes of XML, expected 1 to ${MAX_XML_BYTES}`);
  }
  const dataOffset = SAVE_HEADER_BYTES + length;
  checkFormat(view.getUint32(28, order), dataOffset);
  return { wasRunning: view.getUint32(24, order) !== 0, dataOffset };
}

function checkFormat(number: number, dataOffset: number): void {
  const format = FORMATS[number];
  if (format === 'raw') return;
  if (format === undefined || format === 'sparse') {
    throw bad(
      `its stream in form ${number} (${format ?? 'unknown'}), which cannot be read here: set save_image_format = "raw" in libvirt's qemu.conf, ` +
        'and save the VM again',
    );
  }
  throw new MigrationError(
    'STREAM_ERROR',
    'image',
    `this is a file of virsh save whose QEMU stream is compressed with ${format}. Decompress it on the way: ` +
      `tail -c +${dataOffset + 1} FILE | ${format} -dc | rdma-migrate image from-qemu - DIR`,
    { details: { format, dataOffset } },
  );
}

function bad(found: string): MigrationError {
  return new MigrationError('STREAM_ERROR', 'image', `the file of virsh save has ${found}`);
}
