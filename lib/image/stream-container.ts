/** What a QEMU stream may be wrapped in: compressed, or a file of libvirt's `virsh save`. */
import { MigrationError } from '../errors.ts';
import { type LibvirtSave, readSaveHeader, SAVE_HEADER_BYTES, SAVE_MAGIC } from './libvirt-save.ts';

/** Enough bytes to tell what it is. */
const MAGIC_BYTES = 16;

interface Known {
  readonly magic: Buffer;
  /** Completes "this is ...". */
  readonly what: string;
  readonly remedy: string;
}

const hex = (text: string): Buffer => Buffer.from(text, 'hex');
const compressed = (magic: Buffer, name: string): Known => ({
  magic,
  what: `a file compressed with ${name}`,
  remedy: `decompress it on the way: ${name} -dc FILE | rdma-migrate image from-qemu - DIR`,
});

const KNOWN: readonly Known[] = [
  compressed(hex('1f8b'), 'gzip'),
  compressed(Buffer.from('BZh'), 'bzip2'),
  compressed(hex('28b52ffd'), 'zstd'),
  compressed(hex('fd377a585a00'), 'xz'),
  compressed(hex('894c5a4f000d0a1a0a'), 'lzop'),
  compressed(hex('04224d18'), 'lz4'),
  {
    magic: hex('7f454c46'),
    what: 'an ELF file, such as virsh dump --memory-only makes: memory without its devices',
    remedy: 'save the VM with migrate "exec:cat>FILE" or virsh save',
  },
  {
    magic: Buffer.from('KDUMP   '),
    what: 'a kdump file: memory without its devices',
    remedy: 'save the VM with migrate "exec:cat>FILE" or virsh save',
  },
  {
    magic: hex('514649fb'),
    what: 'a qcow2 disk, in which QEMU keeps snapshots in another form',
    remedy: 'load the snapshot into QEMU (loadvm), then save the VM with migrate "exec:cat>FILE"',
  },
  {
    magic: Buffer.from('LibvirtQemudPart'),
    what: 'a file that virsh save has not completed',
    remedy: 'the VM in it is not whole: look at libvirt’s log, and save it again',
  },
];

/**
 * The QEMU stream within the input; all of it if it is not wrapped. `onSave` is called for a file of `virsh save`, before the stream.
 * @throws MigrationError STREAM_ERROR: it is something else, which the message names; STREAM_TRUNCATED: it ends before the stream
 */
export async function* unwrapped(
  chunks: AsyncIterable<Uint8Array>,
  onSave: (save: LibvirtSave) => void = () => {},
): AsyncGenerator<Uint8Array> {
  const begun = new Beginning(onSave);
  for await (const chunk of chunks) {
    const piece = begun.take(chunk);
    if (piece.length > 0) yield piece;
  }
  const rest = begun.end();
  if (rest.length > 0) yield rest;
}

/** Keeps the first bytes until they show what the input is. */
class Beginning {
  readonly #onSave: (save: LibvirtSave) => void;
  #held: Buffer | undefined = Buffer.alloc(0);
  #skip = 0;
  #inSave = false;

  constructor(onSave: (save: LibvirtSave) => void) {
    this.#onSave = onSave;
  }

  /** The part that belongs to the stream. */
  take(chunk: Uint8Array): Uint8Array {
    if (this.#held === undefined) return this.#behindHeader(chunk);
    this.#held = Buffer.concat([this.#held, chunk]);
    if (this.#held.length < MAGIC_BYTES) return new Uint8Array();
    refuseKnown(this.#held);
    this.#inSave = this.#held.subarray(0, MAGIC_BYTES).equals(SAVE_MAGIC);
    if (!this.#inSave) return this.#letGo();
    if (this.#held.length < SAVE_HEADER_BYTES) return new Uint8Array();
    const save = readSaveHeader(this.#held);
    this.#onSave(save);
    this.#skip = save.dataOffset;
    return this.#behindHeader(this.#letGo());
  }

  /** Nothing more comes. */
  end(): Uint8Array {
    if (this.#skip > 0 || (this.#inSave && this.#held !== undefined)) throw cutShort();
    const rest = this.#letGo();
    refuseKnown(rest);
    return rest;
  }

  #letGo(): Buffer {
    const held = this.#held ?? Buffer.alloc(0);
    this.#held = undefined;
    return held;
  }

  #behindHeader(bytes: Uint8Array): Uint8Array {
    const skipped = Math.min(this.#skip, bytes.length);
    this.#skip -= skipped;
    return bytes.subarray(skipped);
  }
}

function refuseKnown(bytes: Buffer): void {
  const known = KNOWN.find(({ magic }) => bytes.subarray(0, magic.length).equals(magic));
  if (known === undefined) return;
  const message = `this is no QEMU stream but ${known.what}. ${capitalised(known.remedy)}`;
  throw new MigrationError('STREAM_ERROR', 'image', message);
}

const capitalised = (text: string): string => text.charAt(0).toUpperCase() + text.slice(1);

function cutShort(): MigrationError {
  const message =
    'the file of virsh save ends before the QEMU stream in it begins: the VM is not whole. Save it again';
  return new MigrationError('STREAM_TRUNCATED', 'image', message);
}
