/**
 * Our tail after QEMU's 8 bytes of private data. All integers are big-endian.
 *
 *     magic u32 | version u16 | length u16 | flags u32          12 bytes
 *     bytes u64                                                 valid with the flag PIN_BUDGET
 *     check u32                                                 24 bytes up to here
 *     id [16]                                                   there with the flag MIGRATION_ID
 *     channels u16                                              there with the flag CHANNELS
 *     token u64 | index u16                                     there with the flag RAIL
 *
 * InfiniBand leaves 56 bytes for the private data of a request: its REQ has 92, of which 36 are rdma_cm's own header. A device refuses more.
 * They are spent so:
 *
 *     a source's request        8 of QEMU + 24 + id 16 + channels 2           50
 *     the reply to it           8 of QEMU + 24 + channels 2 + rail 10         44
 *     a rail's request, reply   8 of QEMU + 24 + rail 10                      42
 *
 * So 6 bytes are left in a source's request: the id is not said again in the reply.
 *
 * `length` is that of the whole tail: a newer release may append fields, an older one ignores them. An older release of ours ends its tail
 * after `flags`, `bytes` or `check` (12, 20 or 24 bytes); without a check it has no field that came later either. `check` is the CRC32C of
 * QEMU's 8 bytes and the whole tail, with zeros where the check stands.
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

/** Flags of ours; each works alone. */
export const FLAG = {
  COMMIT: 0x1,
  PIN_BUDGET: 0x2,
  SPARSE: 0x4,
  REASON: 0x8,
  ALIVE: 0x10,
  MIGRATION_ID: 0x20,
  CHANNELS: 0x40,
  RAIL: 0x80,
  PROGRESS: 0x100,
  /** Not a wish but a fact: this end is our software RNIC. */
  SOFTWARE_RNIC: 0x200,
  /** A TLS handshake follows before anything else is said; in a rejection: only who makes one is let in. */
  TLS: 0x400,
  /** The source's operator wants no check of what travels: the destination does not ask for one by itself. */
  UNCHECKED: 0x800,
  /** In a rejection: as many migrations are under way as may be, and it may be asked again. */
  BUSY: 0x1000,
  /** DESCRIPTION (messages.ts): the source describes its VM before RAM moves, and the destination checks it. */
  DESCRIPTION: 0x2000,
  /** Not a source: it asks what became of the migration that it names (STATUS, messages.ts). */
  STATUS: 0x4000,
  /** The source's connections may outlive their TCP streams; a software RNIC that has that too answers with a tail of its own (docs/moving-connections.md). */
  RESUME: 0x8000,
  /** The source would go on from what an earlier try has left at the destination: DIGESTS_REQUEST (messages.ts). In a reply: there is something. */
  CONTINUE: 0x10000,
} as const;

/** Which queue pair of a migration a connection is. */
export interface Rail {
  /** u64, random, made by the destination for one migration. */
  readonly token: bigint;
  /** 0 is the connection that carries the messages. */
  readonly index: number;
}

/** Our tail. `flags` are raw, so that unknown ones are seen; those of fields that come after the check are set by the fields. */
export interface Extension {
  readonly version: number;
  readonly flags: number;
  /** Valid with PIN_BUDGET; absent in a tail that ends before it. */
  readonly bytes?: bigint;
  /** It has a check value. Those of older releases have none. */
  readonly checked: boolean;
  /** A UUID: which migration this is. */
  readonly migrationId?: string;
  /** A request: queue pairs that the source wants to use. The reply to it: those that it gets, at least 1. */
  readonly channels?: number;
  /** In the reply to a source: the token that its rails are to show. */
  readonly rail?: Rail;
}

/** Private data as its sender made it: without the zeros that a provider has padded it with. */
export function unpadded(privateData: Uint8Array): Uint8Array {
  if (readExtension(privateData) === undefined) return privateData.subarray(0, V1_BYTES);
  const length = new DataView(privateData.buffer, privateData.byteOffset).getUint16(V1_BYTES + 6);
  return privateData.subarray(0, V1_BYTES + length);
}

/** QEMU's 8 bytes followed by the tail. */
export function appendExtension(v1: Uint8Array, extension: Extension): Uint8Array {
  const { version, bytes, checked } = extension;
  const fields = checked ? encodeFields(extension) : { flags: 0, bytes: new Uint8Array() };
  const length = checked ? CHECK_END + fields.bytes.length : bytes === undefined ? FLAGS_END : BYTES_END;
  const flags = ((extension.flags & ~FIELD_FLAGS) | fields.flags) >>> 0;
  const writer = new Writer(V1_BYTES + length).bytes(v1).u32(MAGIC).u16(version).u16(length).u32(flags);
  if (length > FLAGS_END) writer.u64(bytes ?? 0n);
  if (!checked) return writer.finish();
  const whole = writer.u32(0).bytes(fields.bytes).finish();
  new DataView(whole.buffer, whole.byteOffset).setUint32(V1_BYTES + BYTES_END, crc32c(whole));
  return whole;
}

type Fields = Pick<Extension, 'migrationId' | 'channels' | 'rail'>;

const FIELD_FLAGS = FLAG.MIGRATION_ID | FLAG.CHANNELS | FLAG.RAIL;
const ID_BYTES = 16;

/** Fields after the check, in the order of their flags. */
function encodeFields({ migrationId, channels, rail }: Fields): { flags: number; bytes: Uint8Array } {
  const writer = new Writer(32);
  let flags = 0;
  if (migrationId !== undefined) {
    flags |= FLAG.MIGRATION_ID;
    writer.bytes(Buffer.from(migrationId.replaceAll('-', ''), 'hex'));
  }
  if (channels !== undefined) {
    flags |= FLAG.CHANNELS;
    writer.u16(channels);
  }
  if (rail !== undefined) {
    flags |= FLAG.RAIL;
    writer.u64(rail.token).u16(rail.index);
  }
  return { flags, bytes: writer.finish() };
}

function readFields(cursor: Cursor, flags: number): Fields {
  const migrationId = (flags & FLAG.MIGRATION_ID) !== 0 && uuid(cursor.bytes(ID_BYTES));
  const channels = (flags & FLAG.CHANNELS) !== 0 && cursor.u16();
  if (channels === 0) throw damaged('an offer of no channels at all');
  const rail = (flags & FLAG.RAIL) !== 0 && { token: cursor.u64(), index: cursor.u16() };
  return { ...(migrationId && { migrationId }), ...(channels && { channels }), ...(rail && { rail }) };
}

/** RFC 9562, section 4. */
function uuid(bytes: Uint8Array): string {
  const hex = Buffer.from(bytes).toString('hex');
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
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
  if (!checked) return { version, flags, ...bytes, checked };
  verify(privateData.subarray(0, V1_BYTES + length), cursor.u32());
  const fields = new Cursor(rest.subarray(CHECK_END, length), 'The tail of the private data', 'negotiate');
  return { version, flags, ...bytes, checked, ...readFields(fields, flags) };
}

/** The lengths of tails of existing releases, and possible ones of newer releases. */
const isLength = (length: number): boolean =>
  length === FLAGS_END || length === BYTES_END || length >= CHECK_END;

function verify(bytes: Uint8Array, check: number): void {
  const copy = Uint8Array.from(bytes); // slice() of a Buffer is no copy
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
