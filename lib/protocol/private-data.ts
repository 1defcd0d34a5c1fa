/**
 * Private data of the connection request and reply, as bytes.
 *
 *     version u32 | flags u32                                       QEMU's, 8 bytes
 *     our tail (extension.ts)                                       after it, 24 bytes and more
 *
 * QEMU reads the first 8 bytes and answers with 8; an end that sends the tail and gets none back faces a QEMU (or another v1 peer). Providers
 * may append zeros. Anything else is damage, and an error: it must not turn an end of ours into a v1 peer.
 *
 * Who says what in it: capabilities.ts (a migration), rejection.ts (a refusal), rail-request.ts (one more queue pair of a migration),
 * status-request.ts (what became of one).
 */
import { MigrationError } from '../errors.ts';
import { Cursor } from './cursor.ts';
import { appendExtension, type Extension, FLAG, readExtension, V1_BYTES } from './extension.ts';
import { Writer } from './writer.ts';

/** The only version of QEMU's protocol. */
export const PROTOCOL_VERSION = 1;

/** Of our tail. */
export const EXTENSION_VERSION = 1;

export interface Capabilities {
  readonly version: number;
  /** Raw; 0x1 is pin-all. */
  readonly flags: number;
  /** Absent: a v1 peer. */
  readonly extension?: Extension;
}

/** Private data as bytes: 8, and the tail's. */
export function encodeCapabilities({ version, flags, extension }: Capabilities): Uint8Array {
  const v1 = new Writer(V1_BYTES).u32(version).u32(flags).finish();
  return extension === undefined ? v1 : appendExtension(v1, extension);
}

/** What stands in the place of the version in the private data of a tunnel (lib/tunnel/hello.ts): `RDMt`. */
export const TUNNEL_MAGIC = 0x52444d74;

const peerIsTunnel = (cause?: unknown): MigrationError =>
  new MigrationError(
    'PROTOCOL_ERROR',
    'negotiate',
    'the peer is rdma-migrate tunnel, and carries bytes only: a migration over rdma: needs QEMU or rdma-migrate at the other end, without a tunnel',
    { cause },
  );

/** Source: what the private data of a rejection says of a tunnel; undefined: it is none. */
export const rejectedByTunnel = (rejection: Uint8Array, cause: unknown): MigrationError | undefined =>
  rejection.length >= V1_BYTES && new Cursor(rejection, 'A rejection', 'connect').u32() === TUNNEL_MAGIC
    ? peerIsTunnel(cause)
    : undefined;

/** Reads private data. Throws PROTOCOL_ERROR for fewer than 8 bytes, for a tunnel's, and for what {@link readExtension} finds damaged. */
export function decodeCapabilities(privateData: Uint8Array): Capabilities {
  const cursor = new Cursor(privateData, 'Private data', 'negotiate');
  const [version, flags] = [cursor.u32(), cursor.u32()];
  if (version === TUNNEL_MAGIC) throw peerIsTunnel();
  const extension = readExtension(privateData);
  return { version, flags, ...(extension && { extension }) };
}

/**
 * Whether our software RNIC sent this request or reply: it takes a message right after the handshake, and FPDUs of any size. Of ours on a device,
 * and of others, neither is known: Linux' siw gives up a connection whose first message comes together with the MPA reply. Damage is found
 * elsewhere.
 */
export function isSoftwareRnic(privateData: Uint8Array): boolean {
  try {
    return hasFlag(decodeCapabilities(privateData), FLAG.SOFTWARE_RNIC);
  } catch {
    return false;
  }
}

/**
 * Whether a request comes from a source of ours on the software RNIC whose operator has not switched checks off: what travels from there has a
 * CRC unless somebody says otherwise. Damage is found elsewhere.
 */
export function takesChecks(request: Uint8Array): boolean {
  if (!isSoftwareRnic(request)) return false;
  return !hasFlag(decodeCapabilities(request), FLAG.UNCHECKED);
}

/** Whether a request comes from a source of ours whose connection may outlive its TCP streams. Damage is found elsewhere. */
export function asksToResume(request: Uint8Array): boolean {
  return isSoftwareRnic(request) && hasFlag(decodeCapabilities(request), FLAG.RESUME);
}

/** Whether a flag of the tail is set; not where there is no tail. */
export function hasFlag({ extension }: Capabilities, flag: number): boolean {
  return ((extension?.flags ?? 0) & flag) !== 0;
}
