/**
 * What both ends of a stream send along with its connection, big-endian:
 *
 *     magic u32 | version u16 | status u16 | flags u32 | check u32          16 bytes
 *
 * `status` is 0 in a request. `check` is the CRC32C of the 16 bytes with zeros in its place. It fits into InfiniBand's 56 bytes, which arrive filled
 * up with zeros. Where a migration's private data has its version, this has a magic, so that neither end takes the other for its own kind.
 */
import { MigrationError } from '../errors.ts';
import { crc32c } from '../protocol/crc32c.ts';
import { Cursor } from '../protocol/cursor.ts';
import { TUNNEL_MAGIC } from '../protocol/private-data.ts';
import { Writer } from '../protocol/writer.ts';

const BYTES = 16;
const CHECK_AT = 12;
export const VERSION = 1;

const SOFTWARE_RNIC = 0x1;
const TLS = 0x2;
const UNCHECKED = 0x4;

/** What a passive end answers. */
export const STATUSES = ['welcome', 'busy', 'version', 'tls-required', 'no-tls', 'not-protected'] as const;
export type Status = (typeof STATUSES)[number];

export interface Hello {
  readonly version: number;
  readonly status: Status;
  /** This end is our software RNIC. */
  readonly softwareRnic: boolean;
  /** A TLS handshake follows. */
  readonly tls: boolean;
  /** This end wants no CRC of what travels. */
  readonly unchecked: boolean;
}

export function encodeHello({ version, status, softwareRnic, tls, unchecked }: Hello): Uint8Array {
  const flags = (softwareRnic ? SOFTWARE_RNIC : 0) | (tls ? TLS : 0) | (unchecked ? UNCHECKED : 0);
  const bytes = new Writer(BYTES).u32(TUNNEL_MAGIC).u16(version).u16(STATUSES.indexOf(status)).u32(flags);
  const hello = bytes.u32(0).finish();
  new DataView(hello.buffer, hello.byteOffset).setUint32(CHECK_AT, crc32c(hello));
  return hello;
}

/** The bytes of it that were meant: a device fills up with zeros. */
export const unpadded = (privateData: Uint8Array): Uint8Array => privateData.subarray(0, BYTES);

/**
 * Of another version only that is read.
 * @throws MigrationError PROTOCOL_ERROR: no tunnel, or damaged
 */
export function decodeHello(privateData: Uint8Array): Hello {
  const cursor = new Cursor(privateData, 'The private data', 'negotiate');
  if (privateData.length < BYTES || cursor.u32() !== TUNNEL_MAGIC) throw noTunnel();
  const [version, status, flags] = [cursor.u16(), STATUSES[cursor.u16()], cursor.u32()];
  if (version !== VERSION)
    return { version, status: 'version', softwareRnic: false, tls: false, unchecked: false };
  const copy = Uint8Array.from(unpadded(privateData));
  new DataView(copy.buffer).setUint32(CHECK_AT, 0);
  if (crc32c(copy) !== cursor.u32() || status === undefined)
    throw new MigrationError(
      'PROTOCOL_ERROR',
      'negotiate',
      "the peer's private data was damaged on its way. Try again; if it repeats, check the network cards and the memory of both hosts",
    );
  return {
    version,
    status,
    softwareRnic: (flags & SOFTWARE_RNIC) !== 0,
    tls: (flags & TLS) !== 0,
    unchecked: (flags & UNCHECKED) !== 0,
  };
}

const noTunnel = (): MigrationError =>
  new MigrationError(
    'PROTOCOL_ERROR',
    'negotiate',
    'the peer is no tunnel of rdma-migrate: it may be one end of a migration (QEMU with rdma:, rdma-migrate receive or send). Both ends have to be rdma-migrate tunnel',
  );
