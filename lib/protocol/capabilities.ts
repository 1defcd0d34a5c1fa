/**
 * Private data of the connection request and reply.
 *
 *     version u32 | flags u32                                       QEMU's, 8 bytes
 *     our tail (extension.ts)                                       after it, 24 bytes
 *
 * The tail's `bytes` are, in a request, how much RAM the source has; in a reply, how much of it the destination may have registered at one
 * time.
 *
 * QEMU reads the first 8 bytes and answers with 8; an end that sends the tail and gets none back faces a QEMU (or another v1 peer). Providers
 * may append zeros. Anything else is damage, and an error: it must not turn an end of ours into a v1 peer.
 *
 * Versions. There is one version of QEMU's protocol, 1, and ours always asks for it: what is new in ours depends on a flag of
 * the tail, and each flag works alone. So no source of ours ever has to fall back by connecting again. A destination refuses
 * every other version, as QEMU does, and names 1 in the private data of its rejection for a newer source to fall back to.
 */
import { MigrationError } from '../errors.ts';
import { Cursor } from './cursor.ts';
import { appendExtension, type Extension, readExtension, V1_BYTES } from './extension.ts';
import { Writer } from './writer.ts';

/** The only version of QEMU's protocol. */
export const PROTOCOL_VERSION = 1;

const FLAG_PIN_ALL = 0x1;

const EXTENSION_VERSION = 1;
const FLAG_COMMIT = 0x1;
const FLAG_PIN_BUDGET = 0x2;
const FLAG_SPARSE = 0x4;
const FLAG_REASON = 0x8;
const FLAG_ALIVE = 0x10;
const U64_MAX = (1n << 64n) - 1n;

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
  /**
   * The destination's RAM is zero before anything arrives: the source need not send zeros that were never anything else there, and
   * marks registrations that it will write completely, the only ones worth touching ahead. Default false.
   */
  readonly sparse?: boolean;
  /** The source says ALIVE when it has had nothing else to say for some seconds. Default false. */
  readonly alive?: boolean;
}

export interface SourceOffer extends Offer {
  /** Bytes of RAM to be sent. Present: the source keeps to the budget of a destination that has one. */
  readonly ramBytes?: bigint;
}

export interface DestinationOffer extends Offer {
  /** Bytes of RAM that may be registered here at one time. A v1 source is not told. */
  readonly pinBudget?: bigint;
  /** The most RAM that pin-all is granted for; a source that does not say how much it has gets it anyway. */
  readonly pinAllLimit?: bigint;
}

/** What both ends use on this connection. */
export interface Agreed {
  readonly version: typeof PROTOCOL_VERSION;
  readonly pinAll: boolean;
  readonly commit: boolean;
  readonly sparse: boolean;
  /** An ERROR may say why (reason.ts). */
  readonly reasons: boolean;
  readonly alive: boolean;
  /** The destination's budget, which the source keeps to. Absent: it has none, or the source knows nothing of budgets. */
  readonly pinBudget?: bigint;
  /** The peer sent our tail: it is one of ours, not QEMU. */
  readonly extended: boolean;
}

/** Private data as bytes: 8, and the tail's. */
export function encodeCapabilities({ version, flags, extension }: Capabilities): Uint8Array {
  const v1 = new Writer(V1_BYTES).u32(version).u32(flags).finish();
  return extension === undefined ? v1 : appendExtension(v1, extension);
}

/** Reads private data. Throws PROTOCOL_ERROR for fewer than 8 bytes, and for what {@link readExtension} finds damaged. */
export function decodeCapabilities(privateData: Uint8Array): Capabilities {
  const cursor = new Cursor(privateData, 'Private data', 'negotiate');
  const [version, flags] = [cursor.u32(), cursor.u32()];
  const extension = readExtension(privateData);
  return { version, flags, ...(extension && { extension }) };
}

/** Source: the private data of its connection request. It always has the tail: QEMU ignores it. */
export function requestCapabilities(offer: SourceOffer): Uint8Array {
  return encodeCapabilities({
    version: PROTOCOL_VERSION,
    flags: offer.pinAll ? FLAG_PIN_ALL : 0,
    extension: extensionOf({ ...offer, reasons: true }, offer.ramBytes, true),
  });
}

/**
 * Destination: answers a request. Flags that were not asked for, or are unknown, are off in the reply; a v1 source gets 8
 * bytes. Throws VERSION_MISMATCH (answer with {@link rejectionCapabilities}) and what {@link decodeCapabilities} throws.
 */
export function answerCapabilities(
  request: Uint8Array,
  offer: DestinationOffer,
): { reply: Uint8Array; agreed: Agreed } {
  const asked = decodeCapabilities(request);
  checkVersion(asked.version, 'source asks for');
  const pinBudget = hasFlag(asked, FLAG_PIN_BUDGET) ? offer.pinBudget : undefined;
  const fits = (bytesOf(asked) ?? 0n) <= (offer.pinAllLimit ?? U64_MAX);
  const agreed = agree(asked, { ...offer, pinAll: offer.pinAll && fits }, pinBudget);
  const reply = encodeCapabilities({
    version: PROTOCOL_VERSION,
    flags: agreed.pinAll ? FLAG_PIN_ALL : 0,
    // An older source gets the tail that it knows.
    ...(asked.extension && { extension: extensionOf(agreed, pinBudget, asked.extension.checked) }),
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
export function acceptCapabilities(reply: Uint8Array, offer: SourceOffer): Agreed {
  const granted = decodeCapabilities(reply);
  checkVersion(granted.version, 'destination answers with');
  return agree(granted, offer, offer.ramBytes === undefined ? undefined : budgetOf(granted));
}

/** A destination that grants the flag says how much. */
function budgetOf(granted: Capabilities): bigint | undefined {
  const bytes = bytesOf(granted);
  if (!hasFlag(granted, FLAG_PIN_BUDGET) || bytes !== undefined) return bytes;
  throw new MigrationError(
    'PROTOCOL_ERROR',
    'negotiate',
    'The destination says that it has a pin budget, but not how much: its private data was damaged',
  );
}

const bytesOf = (peer: Capabilities): bigint | undefined =>
  hasFlag(peer, FLAG_PIN_BUDGET) ? peer.extension?.bytes : undefined;

function extensionOf(
  uses: { commit: boolean; sparse?: boolean; alive?: boolean; reasons: boolean },
  bytes: bigint | undefined,
  checked: boolean,
): Extension {
  const flags = [
    uses.commit ? FLAG_COMMIT : 0,
    uses.sparse ? FLAG_SPARSE : 0,
    uses.reasons ? FLAG_REASON : 0,
    uses.alive ? FLAG_ALIVE : 0,
    bytes === undefined ? 0 : FLAG_PIN_BUDGET,
  ].reduce((all, flag) => all | flag, 0);
  return { version: EXTENSION_VERSION, flags, ...(bytes !== undefined && { bytes }), checked };
}

function hasFlag({ extension }: Capabilities, flag: number): boolean {
  return ((extension?.flags ?? 0) & flag) !== 0;
}

function agree(peer: Capabilities, offer: Offer, pinBudget: bigint | undefined): Agreed {
  return {
    version: PROTOCOL_VERSION,
    pinAll: offer.pinAll && (peer.flags & FLAG_PIN_ALL) !== 0,
    commit: offer.commit && hasFlag(peer, FLAG_COMMIT),
    sparse: offer.sparse === true && hasFlag(peer, FLAG_SPARSE),
    reasons: hasFlag(peer, FLAG_REASON),
    alive: offer.alive === true && hasFlag(peer, FLAG_ALIVE),
    ...(pinBudget === undefined ? {} : { pinBudget }),
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
