/**
 * Our tail after QEMU's 8 bytes of private data. All integers are big-endian.
 *
 *     magic u32 | version u16 | length u16 | flags u32          12 bytes
 *     bytes u64                                                 valid with the flag PIN_BUDGET
 *     check u32                                                 24 bytes in all
 *
 * `length` is that of the whole tail: a newer release may append fields, which an older one ignores. An older release of ours ends its tail
 * after `flags` or after `bytes` (12 or 20 bytes) and has no check. `check` is the CRC32C of QEMU's 8 bytes and the whole tail, with
 * zeros in place of the check.
 *
 * Damage must never make a peer of ours look like a QEMU, or like an older release: it would be asked for less than it can do, without any
 * sign of it. So QEMU's 8 bytes are followed by a tail of ours, or by nothing but the zeros that a provider pads with; else it is an error.
 */
import { MigrationError } from '../errors.ts';
import { crc32c } from './crc32c.ts';
import { Cursor } from './cursor.ts';
import { Writer } from './writer.ts';

/** QEMU's part: version and flags. */
export const V1_BYTES = 8;

const MAGIC = 0x52444d67; // "RDMg"
const FLAGS_END = 12;
const BYTES_END = 20;
const CHECK_END = 24;

/** Our tail. `flags` are raw, so that unknown ones are seen. */
export interface Extension {
  readonly version: number;
  readonly flags: number;
  /** Valid with PIN_BUDGET; absent in a tail that ends before it. */
  readonly bytes?: bigint;
  /** It has a check value. Those of older releases have none. */
  readonly checked: boolean;
}

/** QEMU's 8 bytes followed by the tail. */
export function appendExtension(v1: Uint8Array, extension: Extension): Uint8Array {
  const { version, flags, bytes, checked } = extension;
  const length = checked ? CHECK_END : bytes === undefined ? FLAGS_END : BYTES_END;
  const writer = new Writer(V1_BYTES + CHECK_END).bytes(v1).u32(MAGIC).u16(version).u16(length).u32(flags);
  if (length > FLAGS_END) writer.u64(bytes ?? 0n);
  if (!checked) return writer.finish();
  const whole = writer.u32(0).finish();
  new DataView(whole.buffer, whole.byteOffset).setUint32(V1_BYTES + BYTES_END, crc32c(whole));
  return whole;
}

/**
 * The tail in private data of at least 8 bytes; undefined: a version 1 peer's.
 * @throws MigrationError PROTOCOL_ERROR when it is damaged
 */
export function readExtension(privateData: Uint8Array): Extension | undefined {
  const rest = privateData.subarray(V1_BYTES);
  if (isZero(rest)) return undefined;
  const cursor = new Cursor(rest, 'The tail of the private data', 'negotiate');
  if (cursor.remaining < FLAGS_END || cursor.u32() !== MAGIC)
    throw damaged(
      `${rest.length} bytes after version and flags that are neither zeros nor a tail of rdma-migrate`,
    );
  const [version, length, flags] = [cursor.u16(), cursor.u16(), cursor.u32()];
  if (version < 1 || !isLength(length) || length > rest.length)
    throw damaged(`a tail of version ${version} that says ${length} bytes, of ${rest.length}`, { length });
  if (!isZero(rest.subarray(length))) throw damaged(`bytes after a tail that says ${length} bytes`);
  const bytes = length >= BYTES_END ? { bytes: cursor.u64() } : {};
  const checked = length >= CHECK_END;
  if (checked) verify(privateData.subarray(0, V1_BYTES + length), cursor.u32());
  return { version, flags, ...bytes, checked };
}

/** The lengths of tails of existing releases, and possible ones of newer releases. */
const isLength = (length: number): boolean =>
  length === FLAGS_END || length === BYTES_END || length >= CHECK_END;

function verify(bytes: Uint8Array, check: number): void {
  const copy = bytes.slice();
  new DataView(copy.buffer).setUint32(V1_BYTES + BYTES_END, 0);
  if (crc32c(copy) !== check) throw damaged('a check value that does not match');
}

const isZero = (bytes: Uint8Array): boolean => bytes.every((byte) => byte === 0);

function damaged(what: string, details = {}): MigrationError {
  return new MigrationError(
    'PROTOCOL_ERROR',
    'negotiate',
    `the peer's private data has ${what}: it was damaged on its way, or does not come from a migration. Try again; if it repeats, check the ` +
      'network cards and the memory of both hosts',
    { details },
  );
}
