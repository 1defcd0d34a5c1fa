import { randomUUID } from 'node:crypto';
import { MigrationError, type Phase, toMigrationError } from '../../errors.ts';
import { type Agreed, answerCapabilities, type DestinationOffer } from '../../protocol/capabilities.ts';
import { formatRdmaUri, parseRdmaUri } from '../../protocol/uri.ts';
import { openFilesLimit, readText } from '../../ram/proc.ts';
import type { DestinationTarget } from '../../ram/vm.ts';
import { Listener } from '../../transport/connect.ts';
import type { Connection } from '../../transport/connection.ts';
import { type ChosenProvider, chooseProvider } from '../../transport/provider.ts';
import { within } from '../../transport/wait.ts';
import { AllowedAddresses } from '../../trust/allow.ts';
import { openTrust } from '../../trust/open.ts';
import { call } from '../embedder.ts';
import { connected, type Ending, failed } from '../journal.ts';
import { Migration } from '../migration.ts';
import { checkDestinationOptions, checkRunOptions } from '../option-schema.ts';
import {
  channelsGranted,
  commitTimeoutMs,
  connectionOptions,
  type DestinationOptions,
  listenerOptions,
  touchedAhead,
} from '../options.ts';
import { lockable } from '../pins/lockable.ts';
import {
  CONTROL_BUFFER_BYTES,
  checkRamFits,
  type DestinationPinPlan,
  type PinPolicy,
  pinPolicy,
  planDestinationPins,
} from '../pins/pinning.ts';
import { tellProtection } from '../protection.ts';
import { describe, type MigrationFacts, type MigrationResult } from '../result.ts';
import { TotalLimit } from '../total-limit.ts';
import { namingMigration } from '../unknown-outcome.ts';
import { checkTarget } from '../vm-schema.ts';
import { DestinationSession } from './destination-session.ts';
import { exposure } from './exposure.ts';
import { checkDeclaredRam } from './ram-limit.ts';
import { type AdmittedSource, type Answer, SourceGate } from './source-gate.ts';
import { Strangers } from './strangers.ts';

/** Peers that are let in side by side until a source is among them: on a device, and on the software RNIC, where one costs a descriptor. */
const MOST_ON_DEVICE = 8;
const MOST_IN_SOFTWARE = 256;
/** Files of many gigabytes are removed in that time. */
const ABORT_TIMEOUT_MS = 60_000;

/**
 * Waits on an address for one VM, from QEMU (`migrate rdma:host:port`) or a {@link MigrationSource}, and puts it into a target.
 *
 * @example
 * await using destination = await MigrationDestination.listen('rdma:0.0.0.0:4444', target);
 * const result = await destination.receive({ signal });
 */
export class MigrationDestination extends Migration {
  readonly #options: DestinationOptions;
  readonly #target: DestinationTarget;
  readonly #provider: ChosenProvider;
  readonly #policy: PinPolicy;
  readonly #host: string;
  readonly #strangers = new Strangers((message) => this.journal.notice('STRANGER', message));
  #listener: Listener | undefined;
  /** What its operator has to know before anybody comes. */
  #exposure: string | undefined;
  /** For a source that has no id of its own. */
  readonly #ownId = randomUUID() as string;
  #migrationId: string | undefined;
  #closed = false;
  readonly #gate: SourceGate;
  #plan: DestinationPinPlan | undefined;
  readonly #abort = new AbortController();
  /** No source can come any more. */
  readonly #deaf = new AbortController();
  #running: Promise<unknown> = Promise.resolve();

  private constructor(
    host: string,
    target: DestinationTarget,
    provider: ChosenProvider,
    options: DestinationOptions,
  ) {
    super('destination', 'listen', options.logger);
    this.#host = host;
    this.#target = target;
    this.#provider = provider;
    this.#policy = pinPolicy(options);
    this.#options = options;
    this.#gate = new SourceGate({
      ...(options.allow && { allowed: new AllowedAddresses(options.allow) }),
      answer: (privateData) => this.#answer(privateData),
      ...(options.tls && { tlsWithinMs: connectionOptions(options).connectTimeoutMs }),
      atOnce: provider.name === 'verbs' ? connectionsThatFit(lockable()?.room) : connectionsInSoftware(),
      timeoutMs: connectionOptions(options).stallTimeoutMs,
      notice: (message, peer, why) => this.journal.notice('PEER_REFUSED', message, { peer, why }),
    });
  }

  /**
   * Listens at a URI; port 0 takes any free port, see {@link uri}. Peers are answered once `receive` runs; until then some of them wait.
   * @throws MigrationError INVALID_ARGUMENT, INVALID_URI, ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, PROVIDER_UNAVAILABLE
   */
  static async listen(
    uri: string,
    target: DestinationTarget,
    options: DestinationOptions = {},
  ): Promise<MigrationDestination> {
    checkTarget(target);
    checkDestinationOptions(options);
    const endpoint = parseRdmaUri(uri);
    const provider = await chooseProvider(options.provider ?? 'auto', endpoint, 'listen');
    const trust = options.tls && (await openTrust(options.tls, 'server', endpoint.host));
    const destination = new MigrationDestination(endpoint.host, target, provider, options);
    destination.#listener = await Listener.open(
      provider.name,
      endpoint,
      listenerOptions(options, trust),
      (incoming) => destination.#gate.come(incoming),
      (error) => destination.#deaf.abort(error),
      (stranger) => destination.#strangers.came(stranger),
    );
    destination.#exposure = await exposure(destination.uri, endpoint.host, options);
    return destination;
  }

  /** Where it listens, with the real port. */
  get uri(): string {
    return formatRdmaUri({ host: this.#host, port: (this.#listener as Listener).port });
  }

  /** Which migration it is, once a source is served: see {@link MigrationFacts.migrationId}. */
  get migrationId(): string | undefined {
    return this.#migrationId;
  }

  /** Who came and spoke something else than RDMA migration, in a sentence. undefined: nobody. */
  get strangers(): string | undefined {
    return this.#strangers.summary;
  }

  /**
   * Waits for a source and receives its VM, once. A peer that is no source (wrong version, short private data, nothing said) is refused
   * and the waiting goes on; so it does for a source that fails before its first message. On failure the target has been aborted: nothing is left here, unless the code is COMMIT_UNKNOWN.
   * @throws MigrationError with the phase it failed in
   */
  async receive(options: { signal?: AbortSignal } = {}): Promise<MigrationResult> {
    checkRunOptions(options);
    this.begin('this destination has received already');
    const { signal } = options;
    const signals = signal ? [signal, this.#abort.signal] : [this.#abort.signal];
    const run = this.#run(AbortSignal.any(signals));
    const ended = run.then((ending) => this.end(ending));
    this.#running = ended.catch(() => {});
    return ended;
  }

  /** Never throws. */
  async #run(signal: AbortSignal): Promise<Ending> {
    try {
      return { facts: await this.#receive(signal) };
    } catch (error) {
      const ending = failed(error, this.journal.phase);
      await this.#abortTarget();
      return ending;
    } finally {
      this.#gate.shut();
      this.#gate.shutRails();
      await this.#listener?.close().catch(() => {}); // what has become of the VM is known
    }
  }

  async #receive(signal: AbortSignal): Promise<MigrationFacts> {
    const plan = this.#planPins();
    this.#plan = plan;
    this.journal.enter('listen');
    if (this.#exposure !== undefined) this.journal.notice('UNPROTECTED', this.#exposure);
    const source = await this.#gate.admit(AbortSignal.any([signal, this.#deaf.signal]));
    await this.#closeListener(source);
    using limit = new TotalLimit(this.#options.totalTimeoutMs, () => this.journal.phase);
    return await this.#serve(source, plan, AbortSignal.any([signal, limit.signal]));
  }

  /** At once, or when the source's further channels have come. */
  async #closeListener({ agreed }: AdmittedSource): Promise<void> {
    const closed = this.#gate.over.then(() => this.#listener?.close());
    if (agreed.channels === 1) await closed;
    else closed.catch(() => {}); // whoever ends the migration closes it, and is told
  }

  /** Not for ever: what hangs in the target would keep the failure from its caller. */
  async #abortTarget(): Promise<void> {
    await within(
      call(() => this.#target.abort()),
      {
        phase: this.journal.phase,
        timeoutMs: ABORT_TIMEOUT_MS,
        what: 'the target to abort',
        waitingFor: 'target',
      },
    ).catch((error: unknown) => {
      const why = toMigrationError(error, 'close').message;
      this.journal.notice('ABORT_FAILED', `what was begun may be there still: ${why}`);
    });
  }

  /** Before a source is let in: only a device pins. */
  #planPins(): DestinationPinPlan {
    const limit = this.#provider.name === 'verbs' ? lockable() : undefined;
    const plan = planDestinationPins(this.#policy, { lockable: limit, reserve: CONTROL_BUFFER_BYTES });
    if (plan.notice !== undefined) this.journal.notice('PIN_LIMIT', plan.notice);
    return plan;
  }

  /** What is said to a peer, before it is let in. */
  #answer(privateData: Uint8Array): Answer {
    const { pinAll, pinAllLimit, offered } = this.#plan as DestinationPinPlan;
    const offer: DestinationOffer = {
      pinAll,
      commit: this.#options.commit !== 'off',
      sparse: this.#target.ramIsFresh === true,
      alive: true,
      progress: true,
      softwareRnic: this.#provider.name === 'iwarp',
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

  async #serve(
    { connection, agreed, first, since, migrationId = this.#ownId }: AdmittedSource,
    plan: DestinationPinPlan,
    signal: AbortSignal,
  ): Promise<MigrationFacts> {
    this.#migrationId = migrationId;
    this.journal.enter('negotiate');
    this.journal.tell(connected(connection, agreed, { since: this.journal.at(since), migrationId }));
    tellProtection(connection, this.journal);
    try {
      const session = new DestinationSession({
        connection,
        agreed,
        first,
        migrationId,
        target: this.#target,
        journal: this.journal,
        limits: { timeoutMs: connectionOptions(this.#options).stallTimeoutMs, signal },
        commitTimeoutMs: commitTimeoutMs(this.#options),
        touchedAhead: touchedAhead(this.#options),
        pinBudget: this.#enforcedBudget(connection, plan),
        setupEnded: () => this.#gate.shutRails(),
        checkRam: (ramBytes) => this.#checkRam(connection, agreed, ramBytes),
      });
      const summary = await session.run();
      await connection.disconnect(2_000);
      const { machine } = summary.layout;
      return describe(connection, agreed, this.#provider, machine, { ...summary, migrationId });
    } catch (error) {
      const known = inPhase(toMigrationError(error, this.journal.phase), this.journal.phase);
      const failure = namingMigration(known, migrationId);
      // Told of a failure, the source would let its VM go on.
      await (failure.code === 'COMMIT_UNKNOWN' ? connection.close() : connection.fail(failure));
      throw failure;
    } finally {
      await connection.close();
    }
  }

  /** A version 1 source cannot be held to a budget but by failing: where nothing is pinned anyway, it is let be unless that was asked for. */
  #enforcedBudget({ info }: Connection, { enforced }: DestinationPinPlan): bigint | undefined {
    return info.pinsMemory || this.#policy.onLimit === 'fail' ? enforced : undefined;
  }

  #checkRam({ info }: Connection, { pinAll, pinBudget }: Agreed, ramBytes: bigint): void {
    const mayAllCome = pinAll || (pinBudget === undefined && this.#policy.onLimit === 'fail');
    checkDeclaredRam(ramBytes, {
      maxRam: this.#options.maxRam,
      fresh: this.#target.ramIsFresh === true,
    });
    if (info.pinsMemory && mayAllCome) checkRamFits(ramBytes, lockable());
  }

  /** Stops listening; a migration that is under way fails with CANCELLED. Idempotent. */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#abort.abort(new MigrationError('CANCELLED', this.journal.phase, 'the destination was closed'));
    }
    await this.#running;
    await this.#listener?.close();
    await this.#gate.close();
    this.abandon();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

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

/** Checks that know no phase (bounds, order) label their errors `ram`; what the target says of its files stays as it is. */
function inPhase(error: MigrationError, phase: Phase): MigrationError {
  const { code, message, details } = error;
  if (error.phase === phase || error.phase === 'image') return error;
  return new MigrationError(code, phase, message, { cause: error, details });
}
