import { randomUUID } from 'node:crypto';
import { MigrationError, type Phase, toMigrationError } from '../../errors.ts';
import type { Agreed } from '../../protocol/capabilities.ts';
import type { DestinationTarget } from '../../ram/vm.ts';
import type { Connection } from '../../transport/connection.ts';
import { within } from '../../transport/wait.ts';
import { call } from '../embedder.ts';
import { connected, type Ending, failed } from '../journal.ts';
import { tellLinks } from '../link-changes.ts';
import { Migration } from '../migration.ts';
import { checkDestinationOptions, checkRunOptions } from '../option-schema.ts';
import {
  commitTimeoutMs,
  connectionOptions,
  type DestinationOptions,
  resumeLimits,
  touchedAhead,
} from '../options.ts';
import { lockable } from '../pins/lockable.ts';
import { checkRamFits, type DestinationPinPlan, pinPolicy } from '../pins/pinning.ts';
import { tellProtection } from '../protection.ts';
import { describe, type MigrationFacts, type MigrationResult } from '../result.ts';
import { TotalLimit } from '../total-limit.ts';
import { namingMigration } from '../unknown-outcome.ts';
import { checkTarget } from '../vm-schema.ts';
import { Acceptor } from './acceptor.ts';
import { DestinationSession } from './destination-session.ts';
import type { AdmittedSource } from './source-gate.ts';

/** How long the end of a migration that has succeeded may take. */
const DISCONNECT_MS = 2_000;
/** Files of many gigabytes are removed in that time. */
const ABORT_TIMEOUT_MS = 60_000;

/** Where a destination's source comes in. */
interface Entrance {
  readonly acceptor: Acceptor;
  /** @throws MigrationError the reason of the signal */
  admit(signal: AbortSignal): Promise<AdmittedSource>;
  /** Nobody comes in for it any more. Idempotent. */
  shut(): Promise<void>;
  /** The same, and waits until those that were refused have gone. Idempotent. */
  close(): Promise<void>;
}

/** Makes the target, once it is known whose VM comes. */
type OpenTarget = () => Promise<DestinationTarget>;

/**
 * Waits on an address for one VM, from QEMU (`migrate rdma:host:port`) or a {@link MigrationSource}, and puts it into a target.
 *
 * @example
 * await using destination = await MigrationDestination.listen('rdma:0.0.0.0:4444', target);
 * const result = await destination.receive({ signal });
 */
export class MigrationDestination extends Migration {
  readonly #options: DestinationOptions;
  readonly #openTarget: OpenTarget;
  #target: Promise<DestinationTarget> | undefined;
  readonly #entrance: Entrance;
  /** For a source that has no id of its own. */
  readonly #ownId: string = randomUUID();
  #migrationId: string | undefined;
  #closed = false;
  readonly #abort = new AbortController();
  #running: Promise<unknown> = Promise.resolve();

  private constructor(entrance: Entrance, openTarget: OpenTarget, options: DestinationOptions) {
    super('destination', 'listen', options.logger);
    this.#entrance = entrance;
    this.#openTarget = openTarget;
    this.#options = options;
  }

  /**
   * Listens at a URI; port 0 takes any free port, see `uri`. Peers are answered once `receive` runs; until then some of them wait.
   * @throws MigrationError INVALID_ARGUMENT, INVALID_URI, ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, PROVIDER_UNAVAILABLE
   */
  static async listen(
    uri: string,
    target: DestinationTarget,
    options: DestinationOptions = {},
  ): Promise<MigrationDestination> {
    checkTarget(target);
    checkDestinationOptions(options);
    const acceptor = await Acceptor.at(uri, options, {
      ramIsFresh: target.ramIsFresh === true,
      describes: target.describe !== undefined,
      continues: target.canContinue === true,
      most: 1,
      notice: (...said) => destination.journal.notice(...said),
    });
    const entrance: Entrance = {
      acceptor,
      admit: (signal) => acceptor.one(signal),
      shut: () => acceptor.stop(),
      close: () => acceptor.close(),
    };
    const destination = new MigrationDestination(entrance, async () => target, options);
    destination.#target = Promise.resolve(target);
    await acceptor.listen();
    return destination;
  }

  /** Of a {@link MigrationService}: its source has been let in. @internal */
  static of(
    acceptor: Acceptor,
    source: AdmittedSource,
    open: (destination: MigrationDestination) => Promise<DestinationTarget>,
    options: DestinationOptions,
  ): MigrationDestination {
    const shut = async (): Promise<void> => source.rails.close();
    const entrance: Entrance = { acceptor, admit: async () => source, shut, close: shut };
    const destination: MigrationDestination = new MigrationDestination(
      entrance,
      () => open(destination),
      options,
    );
    destination.#migrationId = source.migrationId ?? destination.#ownId;
    return destination;
  }

  /** Where it listens, with the real port. */
  get uri(): string {
    return this.#entrance.acceptor.uri;
  }

  /** Which migration it is, once a source is served: see {@link MigrationFacts.migrationId}. */
  get migrationId(): string | undefined {
    return this.#migrationId;
  }

  /** Who came and spoke something else than RDMA migration, in a sentence. undefined: nobody. */
  get strangers(): string | undefined {
    return this.#entrance.acceptor.strangers;
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
    const run = this.#run(signal ? AbortSignal.any([signal, this.#abort.signal]) : this.#abort.signal);
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
      this.#entrance.acceptor.declaredRam.giveBack(this);
      await this.#entrance.shut().catch(() => {}); // what has become of the VM is known
    }
  }

  async #receive(signal: AbortSignal): Promise<MigrationFacts> {
    this.journal.enter('listen');
    const source = await this.#entrance.admit(signal);
    using limit = new TotalLimit(this.#options.totalTimeoutMs, () => this.journal.phase);
    return await this.#serve(source, AbortSignal.any([signal, limit.signal]));
  }

  /** Not for ever: what hangs in the target would keep the failure from its caller. */
  async #abortTarget(): Promise<void> {
    await within(
      call(async () => (await this.#target?.catch(() => undefined))?.abort()),
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

  /** @throws MigrationError why there is none: what it is comes too late when this is given up, and is aborted */
  async #open(signal: AbortSignal): Promise<DestinationTarget> {
    this.#target ??= call(this.#openTarget);
    const timeoutMs = connectionOptions(this.#options).stallTimeoutMs;
    const what = 'the target to be opened';
    const target = await within(this.#target, {
      phase: 'setup',
      timeoutMs,
      signal,
      what,
      waitingFor: 'target',
    });
    checkTarget(target);
    return target;
  }

  async #serve(
    { connection, agreed, first, since, rails, migrationId = this.#ownId }: AdmittedSource,
    signal: AbortSignal,
  ): Promise<MigrationFacts> {
    this.#migrationId = migrationId;
    this.journal.enter('negotiate');
    this.journal.tell(connected(connection, agreed, { since: this.journal.at(since), migrationId }));
    tellProtection(connection, this.journal);
    tellLinks(connection, this.journal, resumeLimits(this.#options)?.windowMs ?? 0);
    const { plan, provider } = this.#entrance.acceptor;
    try {
      const target = await this.#open(signal);
      const session = new DestinationSession({
        connection,
        agreed,
        first,
        migrationId,
        target,
        journal: this.journal,
        map: this.map,
        limits: { timeoutMs: connectionOptions(this.#options).stallTimeoutMs, signal },
        commitTimeoutMs: commitTimeoutMs(this.#options),
        touchedAhead: touchedAhead(this.#options),
        pinBudget: this.#enforcedBudget(connection, plan),
        setupEnded: () => rails.close(),
        checkRam: (ramBytes) => this.#checkRam(connection, agreed, ramBytes, target),
      });
      const summary = await session.run();
      if (summary.committed) await this.#untilHeard(connection);
      await connection.disconnect(DISCONNECT_MS);
      const { machine } = summary.layout;
      return describe(connection, agreed, provider, machine, { ...summary, migrationId });
    } catch (error) {
      const known = inPhase(toMigrationError(error, this.journal.phase), this.journal.phase);
      const failure = namingMigration(known, migrationId);
      // Told of a failure, the source would let its VM go on.
      await (failure.code === 'COMMIT_UNKNOWN' ? connection.close() : connection.fail(failure));
      throw failure;
    } finally {
      this.map?.close();
      await connection.close();
    }
  }

  /** A source ends the connection once it has the answer. One that does not may have lost it. */
  async #untilHeard(connection: Connection): Promise<void> {
    const end = await connection.waitForEnd({ timeoutMs: DISCONNECT_MS }).catch(() => undefined);
    if (end?.orderly) return;
    const message =
      'the VM is complete here and the source was told, but it has not shown that it has heard of it';
    this.journal.notice('SOURCE_NOT_TOLD', message);
  }

  /** A version 1 source cannot be held to a budget but by failing: where nothing is pinned anyway, it is let be unless that was asked for. */
  #enforcedBudget({ info }: Connection, { enforced }: DestinationPinPlan): bigint | undefined {
    return info.pinsMemory || pinPolicy(this.#options).onLimit === 'fail' ? enforced : undefined;
  }

  #checkRam(
    { info }: Connection,
    { pinAll, pinBudget }: Agreed,
    ramBytes: bigint,
    { ramIsFresh = false }: DestinationTarget,
  ): void {
    const mayAllCome = pinAll || (pinBudget === undefined && pinPolicy(this.#options).onLimit === 'fail');
    this.#entrance.acceptor.declaredRam.take(this, ramBytes, {
      maxRam: this.#options.maxRam,
      fresh: ramIsFresh,
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
    await this.#entrance.close();
    this.abandon();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Checks that know no phase (bounds, order) label their errors `ram`; what the target says of its files stays as it is. */
function inPhase(error: MigrationError, phase: Phase): MigrationError {
  const { code, message, details } = error;
  if (error.phase === phase || error.phase === 'image') return error;
  return new MigrationError(code, phase, message, { cause: error, details });
}
