/**
 * Private data of the connection request and reply.
 *
 *     version u32 | flags u32                                       QEMU's, 8 bytes
 *     our tail (extension.ts)                                       after it, 24 bytes and more
 *
 * The tail's `bytes` are, in a request, how much RAM the source has; in a reply, how much of it the destination may have registered at one
 * time.
 *
 * QEMU reads the first 8 bytes and answers with 8; an end that sends the tail and gets none back faces a QEMU (or another v1 peer). Providers
 * may append zeros. Anything else is damage, and an error: it must not turn an end of ours into a v1 peer.
 *
 * The migration's id is the source's: it makes one at random and sends it along. A destination whose source sends none (a QEMU, an older
 * release) makes its own, which no other end knows.
 *
 * Channels. The source says how many queue pairs it wants, the destination how many it gets, with a token. Each further one, a rail, is a
 * connection of its own whose request has nothing but the token and its index. Only a migration that ends with a COMMIT gets any: without one
 * the destination follows the order of the WRITEs, which several queue pairs do not keep.
 *
 * Versions. There is one version of QEMU's protocol, 1, and ours always asks for it: what is new in ours depends on a flag of
 * the tail, and each flag works alone. So no source of ours ever has to fall back by connecting again. A destination refuses
 * every other version, as QEMU does, and names 1 in the private data of its rejection for a newer source to fall back to.
 */
import { randomBytes } from 'node:crypto';
import { MigrationError } from '../errors.ts';
import { Cursor } from './cursor.ts';
import { appendExtension, type Extension, FLAG, type Rail, readExtension, V1_BYTES } from './extension.ts';

export type { Rail } from './extension.ts';

import { Writer } from './writer.ts';

/** The only version of QEMU's protocol. */
export const PROTOCOL_VERSION = 1;

const FLAG_PIN_ALL = 0x1;

const EXTENSION_VERSION = 1;
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
  /** The source tells how far it is (progress.ts). Default false. */
  readonly progress?: boolean;
  /** The most queue pairs of this migration. Default 1: nothing is said of them. */
  readonly channels?: number;
  /** The source describes its VM before RAM moves; the destination checks what is said. Default false. */
  readonly description?: boolean;
  /** This end is our software RNIC. Default false. */
  readonly softwareRnic?: boolean;
  /** This end has credentials, and goes on only with a peer that has some too. Default false. */
  readonly tls?: boolean;
}

export interface SourceOffer extends Offer {
  /** Bytes of RAM to be sent. Present: the source keeps to the budget of a destination that has one. */
  readonly ramBytes?: bigint;
  /** A UUID. */
  readonly migrationId?: string;
  /** No check of what travels is wanted. Default false. */
  readonly unchecked?: boolean;
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
  readonly progress: boolean;
  /** The source describes its VM. Absent: it does not. */
  readonly description?: true;
  /** The destination's budget, which the source keeps to. Absent: it has none, or the source knows nothing of budgets. */
  readonly pinBudget?: bigint;
  /** The peer sent our tail: it is one of ours, not QEMU. */
  readonly extended: boolean;
  /** Queue pairs that the migration may have, the one that carries its messages included. */
  readonly channels: number;
  /** What its rails have to show. Present when there may be any. */
  readonly token?: bigint;
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

/** Source: the private data of its connection request. It always has the tail: QEMU ignores it. */
export function requestCapabilities(offer: SourceOffer): Uint8Array {
  return encodeCapabilities({
    version: PROTOCOL_VERSION,
    flags: offer.pinAll ? FLAG_PIN_ALL : 0,
    extension: {
      ...extensionOf({ ...offer, reasons: true }, offer.ramBytes, true),
      ...(offer.migrationId !== undefined && { migrationId: offer.migrationId }),
      ...((offer.channels ?? 1) > 1 && { channels: offer.channels as number }),
    },
  });
}

/**
 * Destination: answers a request. Features that were not asked for, or are unknown, are off in the reply; a v1 source gets 8
 * bytes. Throws VERSION_MISMATCH (answer with {@link rejectionCapabilities}) and what {@link decodeCapabilities} throws.
 */
export function answerCapabilities(
  request: Uint8Array,
  offer: DestinationOffer,
): { reply: Uint8Array; agreed: Agreed; migrationId?: string } {
  const asked = decodeCapabilities(request);
  checkVersion(asked.version, 'source asks for');
  if (hasFlag(asked, FLAG.STATUS)) throw onlyAsks();
  if (offer.tls === true && !hasFlag(asked, FLAG.TLS)) throw sourceHasNone(asked);
  if (offer.tls !== true && hasFlag(asked, FLAG.TLS)) throw credentialsWanted();
  const pinBudget = hasFlag(asked, FLAG.PIN_BUDGET) ? offer.pinBudget : undefined;
  const fits = (bytesOf(asked) ?? 0n) <= (offer.pinAllLimit ?? U64_MAX);
  const both = agree(asked, { ...offer, pinAll: offer.pinAll && fits }, pinBudget);
  const channels = both.commit ? grantedChannels(asked.extension?.channels, offer.channels) : 1;
  const agreed: Agreed = {
    ...both,
    channels,
    ...(channels > 1 && { token: randomBytes(8).readBigUInt64BE() }),
  };
  const migrationId = asked.extension?.migrationId;
  const reply = encodeCapabilities({
    version: PROTOCOL_VERSION,
    flags: agreed.pinAll ? FLAG_PIN_ALL : 0,
    // An older source gets the tail that it knows.
    ...(asked.extension && {
      extension: {
        ...extensionOf(
          { ...agreed, softwareRnic: offer.softwareRnic === true, tls: offer.tls === true },
          pinBudget,
          asked.extension.checked,
        ),
        ...(agreed.token !== undefined && { channels, rail: { token: agreed.token, index: 0 } }),
      },
    }),
  });
  return { reply, agreed, ...(migrationId !== undefined && { migrationId }) };
}

const grantedChannels = (wanted = 1, most = 1): number => Math.min(wanted, most);

/** What a rejection says beside that it is one. */
export interface RejectionFacts {
  /** Only sources with credentials are let in. */
  readonly tls?: boolean;
  /** As many migrations are under way as may be: it may be asked again. */
  readonly busy?: boolean;
}

/** Destination: the private data of a rejection; its version is the one to fall back to. */
export function rejectionCapabilities({ tls = false, busy = false }: RejectionFacts = {}): Uint8Array {
  const flags = (tls ? FLAG.TLS : 0) | (busy ? FLAG.BUSY : 0);
  const extension = { version: EXTENSION_VERSION, flags, checked: true };
  return encodeCapabilities({ version: PROTOCOL_VERSION, flags: 0, ...(flags !== 0 && { extension }) });
}

/**
 * Source: what a rejection says of the reason. undefined: nothing that is known here, or nothing that can be read, as of QEMU; or zeros, which InfiniBand
 * and RoCE give where nothing was said. A destination with credentials says so in each of its rejections, whatever the reason.
 * @param credentials whether this end has some
 */
export function rejectedFor(
  rejection: Uint8Array,
  credentials: boolean,
  cause: unknown,
): MigrationError | undefined {
  const said = readRejection(rejection);
  if (said === undefined) return undefined;
  if (hasFlag(said, FLAG.TLS) !== credentials)
    return credentials ? destinationHasNone('connect', cause) : tlsRequired(cause);
  return hasFlag(said, FLAG.BUSY) ? destinationIsBusy(cause) : undefined;
}

/** What a source is told where as many migrations are under way as may be. */
function destinationIsBusy(cause: unknown): MigrationError {
  return new MigrationError(
    'BUSY',
    'connect',
    'the destination serves as many migrations as it may at one time. Try again when one of them has ended',
    { cause },
  );
}

function readRejection(privateData: Uint8Array): Capabilities | undefined {
  try {
    const said = decodeCapabilities(privateData);
    return said.version === 0 ? undefined : said;
  } catch {
    return undefined;
  }
}

/** Source with credentials: @throws MigrationError TLS_REQUIRED: the reply comes from an end without */
export function requireTls(reply: Uint8Array): void {
  if (!hasFlag(decodeCapabilities(reply), FLAG.TLS)) throw destinationHasNone('negotiate');
}

/** What a source without credentials is told of a destination that takes nobody else. */
function tlsRequired(cause: unknown): MigrationError {
  return new MigrationError(
    'TLS_REQUIRED',
    'connect',
    'the destination takes only sources that show who they are. Give this one credentials (--tls-creds)',
    { cause },
  );
}

function sourceHasNone({ extension }: Capabilities): MigrationError {
  const who = extension ? 'has no credentials' : 'is a QEMU, or another program that cannot show who it is';
  return new MigrationError(
    'TLS_REQUIRED',
    'negotiate',
    `the source ${who}, and only sources with credentials are let in here (--tls-creds). Give it some (rdma-migrate send --tls-creds), or listen ` +
      'without, on a network that you trust',
  );
}

const credentialsWanted = (): MigrationError =>
  new MigrationError(
    'TLS_REQUIRED',
    'negotiate',
    'the source wants a protected migration, and there are no credentials here. Give this end some too (--tls-creds)',
  );

const destinationHasNone = (phase: 'connect' | 'negotiate', cause?: unknown): MigrationError =>
  new MigrationError(
    'TLS_REQUIRED',
    phase,
    'this source has credentials (--tls-creds), and the destination has none: it was started without, or is a QEMU, or another program that cannot ' +
      'show who it is. Start the destination with credentials too (rdma-migrate receive --tls-creds), or send without, on a network that you trust',
    { cause },
  );

/**
 * Source: reads the reply to {@link requestCapabilities} of the same offer. What the destination did not grant is off: a
 * refused pin-all means dynamic registration. What it grants unasked is ignored. Throws VERSION_MISMATCH and what
 * {@link decodeCapabilities} throws.
 */
export function acceptCapabilities(reply: Uint8Array, offer: SourceOffer): Agreed {
  const granted = decodeCapabilities(reply);
  checkVersion(granted.version, 'destination answers with');
  const budget = offer.ramBytes === undefined ? undefined : budgetOf(granted);
  return { ...agree(granted, offer, budget), ...railsOf(granted, offer.channels) };
}

/** @throws MigrationError PROTOCOL_ERROR: more than was asked for, or channels without a token */
function railsOf({ extension }: Capabilities, wanted = 1): Pick<Agreed, 'channels' | 'token'> {
  const { channels = 1, rail } = extension ?? {};
  if (wanted === 1 || channels === 1) return { channels: 1 };
  if (channels <= wanted && rail?.index === 0) return { channels, token: rail.token };
  throw new MigrationError(
    'PROTOCOL_ERROR',
    'negotiate',
    `the destination grants ${channels} channels where ${wanted} were asked for, ${rail ? 'with' : 'without'} a token for them`,
    { details: { wanted, granted: channels } },
  );
}

/** The private data of a request that only asks what became of a migration; the rest as in an offer. The reply's has nothing else to say. */
export function requestStatus(
  migrationId: string,
  { tls, softwareRnic }: Pick<Offer, 'tls' | 'softwareRnic'>,
): Uint8Array {
  const flags = FLAG.STATUS | (tls ? FLAG.TLS : 0) | (softwareRnic ? FLAG.SOFTWARE_RNIC : 0);
  const extension = { version: EXTENSION_VERSION, flags, checked: true, migrationId };
  return encodeCapabilities({ version: PROTOCOL_VERSION, flags: 0, extension });
}

/** Which migration a request asks for, and whether its sender has credentials. undefined: it is no such request, or cannot be read. */
export function statusAskedFor(
  privateData: Uint8Array,
): { readonly migrationId: string; readonly tls: boolean } | undefined {
  try {
    const asked = decodeCapabilities(privateData);
    const migrationId = asked.extension?.migrationId;
    if (migrationId === undefined || !hasFlag(asked, FLAG.STATUS)) return undefined;
    return { migrationId, tls: hasFlag(asked, FLAG.TLS) };
  } catch {
    return undefined;
  }
}

const onlyAsks = (): MigrationError =>
  new MigrationError(
    'REJECTED',
    'negotiate',
    'it asks what became of a migration, of which nothing is known here',
  );

/** Source: the private data of the request that makes one more queue pair of a migration. */
export function requestRail(rail: Rail): Uint8Array {
  const extension = { version: EXTENSION_VERSION, flags: 0, checked: true, rail };
  return encodeCapabilities({ version: PROTOCOL_VERSION, flags: 0, extension });
}

/** Destination: takes a rail. Its private data says the same as the request's. */
export const answerRail = requestRail;

/**
 * What a request asks to be, if it is a rail's. undefined: it is a source's.
 * @throws MigrationError what {@link decodeCapabilities} throws
 */
export function railOf(privateData: Uint8Array): Rail | undefined {
  return decodeCapabilities(privateData).extension?.rail;
}

/** Source: reads the answer to {@link requestRail}. @throws MigrationError PROTOCOL_ERROR: it is no answer to that */
export function acceptRail(reply: Uint8Array, { token, index }: Rail): void {
  const rail = railOf(reply);
  if (rail?.token === token && rail.index === index) return;
  throw new MigrationError(
    'PROTOCOL_ERROR',
    'connect',
    `channel ${index + 1} was answered by something else than the destination`,
  );
}

/** A destination that grants the flag says how much. */
function budgetOf(granted: Capabilities): bigint | undefined {
  const bytes = bytesOf(granted);
  if (!hasFlag(granted, FLAG.PIN_BUDGET) || bytes !== undefined) return bytes;
  throw new MigrationError(
    'PROTOCOL_ERROR',
    'negotiate',
    'The destination says that it has a pin budget, but not how much: its private data was damaged',
  );
}

const bytesOf = (peer: Capabilities): bigint | undefined =>
  hasFlag(peer, FLAG.PIN_BUDGET) ? peer.extension?.bytes : undefined;

function extensionOf(
  uses: Pick<Offer, 'commit' | 'sparse' | 'alive' | 'progress' | 'description' | 'softwareRnic' | 'tls'> &
    Pick<SourceOffer, 'unchecked'> & { reasons: boolean },
  bytes: bigint | undefined,
  checked: boolean,
): Extension {
  const flags = [
    uses.commit ? FLAG.COMMIT : 0,
    uses.sparse ? FLAG.SPARSE : 0,
    uses.reasons ? FLAG.REASON : 0,
    uses.alive ? FLAG.ALIVE : 0,
    uses.progress ? FLAG.PROGRESS : 0,
    uses.description ? FLAG.DESCRIPTION : 0,
    uses.softwareRnic ? FLAG.SOFTWARE_RNIC : 0,
    uses.tls ? FLAG.TLS : 0,
    uses.unchecked ? FLAG.UNCHECKED : 0,
    bytes === undefined ? 0 : FLAG.PIN_BUDGET,
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
    commit: offer.commit && hasFlag(peer, FLAG.COMMIT),
    sparse: offer.sparse === true && hasFlag(peer, FLAG.SPARSE),
    reasons: hasFlag(peer, FLAG.REASON),
    alive: offer.alive === true && hasFlag(peer, FLAG.ALIVE),
    progress: offer.progress === true && hasFlag(peer, FLAG.PROGRESS),
    ...(offer.description && hasFlag(peer, FLAG.DESCRIPTION) && { description: true }),
    ...(pinBudget === undefined ? {} : { pinBudget }),
    extended: peer.extension !== undefined,
    channels: 1,
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
