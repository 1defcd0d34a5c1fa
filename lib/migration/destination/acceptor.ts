/** The end of a destination that listens: it owns the listener, says what is offered, and lets sources in. */
import { MigrationError } from '../../errors.ts';
import { answerCapabilities, type DestinationOffer } from '../../protocol/capabilities.ts';
import { formatRdmaUri, parseRdmaUri } from '../../protocol/uri.ts';
import { openFilesLimit, readText } from '../../ram/proc.ts';
import { type Endpoint, Listener } from '../../transport/connect.ts';
import { type ChosenProvider, chooseProvider } from '../../transport/provider.ts';
import { AllowedAddresses } from '../../trust/allow.ts';
import { openTrust } from '../../trust/open.ts';
import type { NoticeCode, NoticeDetails } from '../events.ts';
import { channelsGranted, connectionOptions, type DestinationOptions, listenerOptions } from '../options.ts';
import { type Lockable, lockable } from '../pins/lockable.ts';
import {
  CONTROL_BUFFER_BYTES,
  type DestinationPinPlan,
  pinPolicy,
  planDestinationPins,
} from '../pins/pinning.ts';
import { exposure } from './exposure.ts';
import { DeclaredRam } from './ram-limit.ts';
import { type AdmittedSource, type Answer, SourceGate } from './source-gate.ts';
import { Strangers } from './strangers.ts';

/** Peers that are let in side by side until they have spoken: on a device, and on the software RNIC, where one costs a descriptor. */
const MOST_ON_DEVICE = 8;
const MOST_IN_SOFTWARE = 256;

/** What is said of those who come, and of this end before anybody comes. */
export type SayNotice = (code: NoticeCode, message: string, details?: NoticeDetails) => void;

export interface AcceptorSettings {
  /** What comes goes to memory that was never written. */
  readonly ramIsFresh: boolean;
  /** The target looks at the source's description of its VM. */
  readonly describes: boolean;
  /** The target has RAM of an earlier try. */
  readonly continues: boolean;
  /** How many migrations may be under way at one time: what may be pinned is for all of them. */
  readonly most: number;
  /** As of {@link SourceGate}. */
  readonly full?: () => MigrationError | undefined;
  readonly notice: SayNotice;
}

/** A {@link MigrationDestination} takes one source of it, a {@link MigrationService} all that come. */
export class Acceptor {
  readonly provider: ChosenProvider;
  /** Of the VMs that are on their way here. */
  readonly declaredRam = new DeclaredRam();
  readonly #endpoint: Endpoint;
  readonly #options: DestinationOptions;
  readonly #settings: AcceptorSettings;
  readonly #strangers: Strangers;
  readonly #gate: SourceGate;
  /** No source can come any more. */
  readonly #deaf = new AbortController();
  #listener: Listener | undefined;
  #exposure: string | undefined;
  #plan: DestinationPinPlan | undefined;

  private constructor(
    endpoint: Endpoint,
    provider: ChosenProvider,
    options: DestinationOptions,
    settings: AcceptorSettings,
  ) {
    const { notice, full } = settings;
    this.#endpoint = endpoint;
    this.provider = provider;
    this.#options = options;
    this.#settings = settings;
    this.#strangers = new Strangers((message) => notice('STRANGER', message));
    const { connectTimeoutMs, stallTimeoutMs } = connectionOptions(options);
    this.#gate = new SourceGate({
      ...(options.allow && { allowed: new AllowedAddresses(options.allow) }),
      ...(options.tls && { tlsWithinMs: connectTimeoutMs }),
      ...(full && { full }),
      answer: (privateData) => this.#answer(privateData),
      atOnce: provider.name === 'verbs' ? connectionsThatFit(lockable()?.room) : connectionsInSoftware(),
      timeoutMs: stallTimeoutMs,
      notice: (message, peer, why) => notice('PEER_REFUSED', message, { peer, why }),
    });
  }

  /** @throws MigrationError INVALID_URI, PROVIDER_UNAVAILABLE, ADDRESS_NOT_FOUND */
  static async at(uri: string, options: DestinationOptions, settings: AcceptorSettings): Promise<Acceptor> {
    const endpoint = parseRdmaUri(uri);
    const provider = await chooseProvider(options.provider ?? 'auto', endpoint, 'listen');
    return new Acceptor(endpoint, provider, options, settings);
  }

  /**
   * Listens, once; peers wait until `one` or `every` lets them in.
   * @throws MigrationError ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, CREDENTIALS_INVALID, LISTEN_FAILED
   */
  async listen(): Promise<void> {
    const { host } = this.#endpoint;
    const trust = this.#options.tls && (await openTrust(this.#options.tls, 'server', host));
    this.#listener = await Listener.open(
      this.provider.name,
      this.#endpoint,
      listenerOptions(this.#options, trust),
      (incoming) => this.#gate.come(incoming),
      (error) => this.#deaf.abort(error),
      (stranger) => this.#strangers.came(stranger),
    );
    this.#exposure = await exposure(this.uri, host, this.#options);
  }

  /** Where it listens, with the real port. */
  get uri(): string {
    return formatRdmaUri({ host: this.#endpoint.host, port: (this.#listener as Listener).port });
  }

  /** Who came and spoke something else than RDMA migration, in a sentence. undefined: nobody. */
  get strangers(): string | undefined {
    return this.#strangers.summary;
  }

  /** Aborted with LISTEN_FAILED when no source can come any more. */
  get deaf(): AbortSignal {
    return this.#deaf.signal;
  }

  /** What may be pinned for each migration. Only once somebody is let in. */
  get plan(): DestinationPinPlan {
    return this.#plan as DestinationPinPlan;
  }

  /**
   * Waits for one source. The listener is closed at once, or when the source's further channels have come; where links that break are replaced, only
   * when the migration has ended.
   * @throws MigrationError the reason of the signal, LISTEN_FAILED, LOCKED_MEMORY_LIMIT
   */
  async one(signal: AbortSignal): Promise<AdmittedSource> {
    this.#begin();
    const source = await this.#gate.admit(AbortSignal.any([signal, this.#deaf.signal]));
    if (source.connection.info.resumable) return source;
    const closed = source.rails.over.then(() => this.#listener?.close());
    if (source.agreed.channels === 1) await closed;
    else closed.catch(() => {}); // whoever ends the migration closes it, and is told
    return source;
  }

  /**
   * Hands every source that comes to `admit`, which must not throw, until {@link shut}.
   * @throws MigrationError LOCKED_MEMORY_LIMIT
   */
  every(admit: (source: AdmittedSource) => void): void {
    this.#begin();
    this.#gate.open(admit);
  }

  /** No source is let in any more, only further channels of those that were. Idempotent. */
  shut(why?: MigrationError): void {
    this.#gate.shut(why);
  }

  /** Stops listening: nobody is let in any more, not even a further channel. Idempotent. */
  async stop(): Promise<void> {
    this.#gate.shut();
    this.#gate.shutRails();
    await this.#listener?.close();
  }

  /** {@link stop}, and waits until all that were refused have gone. Idempotent. */
  async close(): Promise<void> {
    try {
      await this.stop();
    } finally {
      await this.#gate.close();
    }
  }

  /** Before a source is let in: only a device pins. */
  #begin(): void {
    const { notice, most } = this.#settings;
    const limit = this.provider.name === 'verbs' ? shareOf(lockable(), most) : undefined;
    this.#plan = planDestinationPins(pinPolicy(this.#options), {
      lockable: limit,
      reserve: CONTROL_BUFFER_BYTES,
    });
    if (this.#plan.notice !== undefined) notice('PIN_LIMIT', this.#plan.notice);
    if (this.#exposure !== undefined) notice('UNPROTECTED', this.#exposure);
  }

  /** What is said to a peer, before it is let in. */
  #answer(privateData: Uint8Array): Answer {
    const { pinAll, pinAllLimit, offered } = this.plan;
    const offer: DestinationOffer = {
      pinAll,
      commit: this.#options.commit !== 'off',
      sparse: this.#settings.ramIsFresh,
      alive: true,
      progress: true,
      description: this.#settings.describes,
      continues: this.#settings.continues,
      softwareRnic: this.provider.name === 'iwarp',
      tls: this.#options.tls !== undefined,
      channels: channelsGranted(this.#options),
      ...(pinAllLimit !== undefined && { pinAllLimit }),
      ...(offered !== undefined && { pinBudget: offered }),
    };
    const answer = answerCapabilities(privateData, offer);
    if (this.#options.commit === 'require' && !answer.agreed.commit) {
      throw new MigrationError(
        'VERSION_MISMATCH',
        'negotiate',
        'the source has no commit handshake, and it is required here',
      );
    }
    return answer;
  }
}

const shareOf = (limit: Lockable | undefined, most: number): Lockable | undefined =>
  limit && { ...limit, room: limit.room / BigInt(most) };

/** A device pins the buffers of every connection; three quarters of the room stay for RAM. */
function connectionsThatFit(room: bigint | undefined): number {
  if (room === undefined) return MOST_ON_DEVICE;
  return Math.max(1, Math.min(MOST_ON_DEVICE, Number(room / (4n * CONTROL_BUFFER_BYTES))));
}

/** Most of the descriptors stay for the VM's files. */
function connectionsInSoftware(): number {
  const files = openFilesLimit(readText) ?? 1024;
  return Math.max(1, Math.min(MOST_IN_SOFTWARE, Math.floor(files / 8)));
}
