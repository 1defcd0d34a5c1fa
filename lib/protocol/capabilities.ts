/**
 * What the two ends of a migration agree on, in the private data of its connection request and reply (private-data.ts).
 *
 * The tail's `bytes` are, in a request, how much RAM the source has; in a reply, how much of it the destination may have registered at one
 * time.
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
import { type Extension, FLAG } from './extension.ts';
import {
  type Capabilities,
  decodeCapabilities,
  EXTENSION_VERSION,
  encodeCapabilities,
  hasFlag,
  PROTOCOL_VERSION,
} from './private-data.ts';
import { credentialsWanted, sourceHasNone } from './rejection.ts';
import { onlyAsks } from './status-request.ts';

const FLAG_PIN_ALL = 0x1;
const U64_MAX = (1n << 64n) - 1n;

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
  /** Source: would go on from what an earlier try has left there. Destination: has something of one. Default false. */
  readonly continues?: boolean;
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
  /** Its connections may outlive their TCP streams. Default false. */
  readonly resume?: boolean;
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
  /** What an earlier try has left at the destination is compared first; then its RAM is not zero. Absent: it is not. */
  readonly continues?: true;
  /** The destination's budget, which the source keeps to. Absent: it has none, or the source knows nothing of budgets. */
  readonly pinBudget?: bigint;
  /** The peer sent our tail: it is one of ours, not QEMU. */
  readonly extended: boolean;
  /** Queue pairs that the migration may have, the one that carries its messages included. */
  readonly channels: number;
  /** What its rails have to show. Present when there may be any. */
  readonly token?: bigint;
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
  uses: Pick<
    Offer,
    'commit' | 'sparse' | 'alive' | 'progress' | 'description' | 'softwareRnic' | 'tls' | 'continues'
  > &
    Pick<SourceOffer, 'unchecked' | 'resume'> & { reasons: boolean },
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
    uses.resume ? FLAG.RESUME : 0,
    uses.continues ? FLAG.CONTINUE : 0,
    bytes === undefined ? 0 : FLAG.PIN_BUDGET,
  ].reduce((all, flag) => all | flag, 0);
  return { version: EXTENSION_VERSION, flags, ...(bytes !== undefined && { bytes }), checked };
}

function agree(peer: Capabilities, offer: Offer, pinBudget: bigint | undefined): Agreed {
  const commit = offer.commit && hasFlag(peer, FLAG.COMMIT);
  const continues = commit && offer.continues === true && hasFlag(peer, FLAG.CONTINUE);
  return {
    version: PROTOCOL_VERSION,
    pinAll: offer.pinAll && (peer.flags & FLAG_PIN_ALL) !== 0,
    commit,
    sparse: !continues && offer.sparse === true && hasFlag(peer, FLAG.SPARSE),
    ...(continues && { continues }),
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
