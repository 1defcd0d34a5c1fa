/**
 * Private data of the connection request and reply.
 *
 *     version u32 | flags u32                                       QEMU's, 8 bytes
 *     magic u32 | version u16 | length u16 | flags u32              ours behind it, 12 bytes
 *
 * QEMU reads the first 8 bytes and answers with 8; who sends the tail and gets none back has a QEMU (or another v1 peer). `length`
 * is that of the whole tail: a newer release may append fields, an older one ignores them. Providers may append zeros.
 *
 * Versions. There is one version of QEMU's protocol, 1, and ours always asks for it: what is new in ours hangs on a flag of
 * the tail and each flag works alone. So no source of ours ever has to fall back by connecting again. A destination refuses
 * every other version, as QEMU does, and names 1 in the private data of its rejection for a newer source to fall back to.
 */
import { MigrationError } from '../errors.ts';
import { Cursor } from './cursor.ts';
import { Writer } from './writer.ts';

/** The only version of QEMU's protocol. */
export const PROTOCOL_VERSION = 1;
/** What InfiniBand leaves for private data of a request. */
export const PRIVATE_DATA_MAX_BYTES = 56;

const FLAG_PIN_ALL = 0x1;

const EXTENSION_MAGIC = 0x52444d67; // "RDMg"
const EXTENSION_VERSION = 1;
const EXTENSION_BYTES = 12;
const FLAG_COMMIT = 0x1;

/** The tail of ours. `flags` are raw, so that unknown ones are seen. */
export interface Extension {
  readonly version: number;
  readonly flags: number;
}

export interface Capabilities {
  readonly version: number;
  /** Raw; 0x1 is pin-all. */
  readonly flags: number;
  /** Absent: a v1 peer. */
  readonly extension?: Extension;
}

/** What one end is willing to use. */
export interface Offer {
  /** Source: asks for pin-all. Destination: allows it. */
  readonly pinAll: boolean;
  readonly commit: boolean;
}

/** What both ends use on this connection. */
export interface Agreed {
  readonly version: typeof PROTOCOL_VERSION;
  readonly pinAll: boolean;
  readonly commit: boolean;
  /** The peer sent our tail: it is one of ours, not QEMU. */
  readonly extended: boolean;
}

/** Private data as bytes: 8, or 20 with an extension. */
export function encodeCapabilities(capabilities: Capabilities): Uint8Array {
  const writer = new Writer(8 + EXTENSION_BYTES).u32(capabilities.version).u32(capabilities.flags);
  const { extension } = capabilities;
  if (extension === undefined) return writer.finish();
  return writer
    .u32(EXTENSION_MAGIC)
    .u16(extension.version)
    .u16(EXTENSION_BYTES)
    .u32(extension.flags)
    .finish();
}

/**
 * Reads private data. What is longer than expected is ignored, zeros or not, unless it starts with our magic. Throws
 * PROTOCOL_ERROR for fewer than 8 bytes, or a tail of ours with an impossible version or length.
 */
export function decodeCapabilities(privateData: Uint8Array): Capabilities {
  const cursor = new Cursor(privateData, 'Private data', 'negotiate');
  const [version, flags] = [cursor.u32(), cursor.u32()];
  if (cursor.remaining < EXTENSION_BYTES || cursor.u32() !== EXTENSION_MAGIC) return { version, flags };
  const extensionVersion = cursor.u16();
  const length = cursor.u16();
  const available = privateData.length - 8;
  if (extensionVersion < 1 || length < EXTENSION_BYTES || length > available) {
    throw new MigrationError(
      'PROTOCOL_ERROR',
      'negotiate',
      `Extension of version ${extensionVersion} says ${length} bytes, expected ${EXTENSION_BYTES} to ${available}. The peer's private data was damaged`,
      { details: { version: extensionVersion, length, available } },
    );
  }
  return { version, flags, extension: { version: extensionVersion, flags: cursor.u32() } };
}

/** Source: the private data of its connection request. It always has the tail: QEMU ignores it. */
export function requestCapabilities(offer: Offer): Uint8Array {
  return encodeCapabilities({
    version: PROTOCOL_VERSION,
    flags: offer.pinAll ? FLAG_PIN_ALL : 0,
    extension: { version: EXTENSION_VERSION, flags: offer.commit ? FLAG_COMMIT : 0 },
  });
}

/**
 * Destination: answers a request. Flags that were not asked for, or are unknown, are off in the reply; a v1 source gets 8
 * bytes. Throws VERSION_MISMATCH (answer with {@link rejectionCapabilities}) and what {@link decodeCapabilities} throws.
 */
export function answerCapabilities(request: Uint8Array, offer: Offer): { reply: Uint8Array; agreed: Agreed } {
  const asked = decodeCapabilities(request);
  checkVersion(asked.version, 'source asks for');
  const agreed = agree(asked, offer);
  const extension = { version: EXTENSION_VERSION, flags: agreed.commit ? FLAG_COMMIT : 0 };
  const reply = encodeCapabilities({
    version: PROTOCOL_VERSION,
    flags: agreed.pinAll ? FLAG_PIN_ALL : 0,
    ...(agreed.extended ? { extension } : {}),
  });
  return { reply, agreed };
}

/** Destination: the private data of a rejection; its version is the one to fall back to. */
export function rejectionCapabilities(): Uint8Array {
  return encodeCapabilities({ version: PROTOCOL_VERSION, flags: 0 });
}

/**
 * Source: reads the reply to {@link requestCapabilities} of the same offer. What the destination did not grant is off: a
 * refused pin-all means dynamic registration. What it grants unasked is ignored. Throws VERSION_MISMATCH and what
 * {@link decodeCapabilities} throws.
 */
export function acceptCapabilities(reply: Uint8Array, offer: Offer): Agreed {
  const granted = decodeCapabilities(reply);
  checkVersion(granted.version, 'destination answers with');
  return agree(granted, offer);
}

function agree(peer: Capabilities, offer: Offer): Agreed {
  const extensionFlags = peer.extension?.flags ?? 0;
  return {
    version: PROTOCOL_VERSION,
    pinAll: offer.pinAll && (peer.flags & FLAG_PIN_ALL) !== 0,
    commit: offer.commit && (extensionFlags & FLAG_COMMIT) !== 0,
    extended: peer.extension !== undefined,
  };
}

function checkVersion(version: number, who: string): void {
  if (version === PROTOCOL_VERSION) return;
  throw new MigrationError(
    'VERSION_MISMATCH',
    'negotiate',
    `The ${who} version ${version} of the RDMA migration protocol, only ${PROTOCOL_VERSION} is known here. Connect with version ${PROTOCOL_VERSION}`,
    { details: { version, supported: PROTOCOL_VERSION } },
  );
}
