import { randomUUID } from 'node:crypto';
import { type ErrorCode, MigrationError, toMigrationError } from '../../errors.ts';
import { invalid } from '../../options/check.ts';
import {
  type Agreed,
  acceptCapabilities,
  requestCapabilities,
  type SourceOffer,
} from '../../protocol/capabilities.ts';
import { parseRdmaUri } from '../../protocol/uri.ts';
import type { HintBook } from '../../ram/hint-book.ts';
import { bookOf } from '../../ram/hints.ts';
import { type RamBlock, type SourceVm, sentOf } from '../../ram/vm.ts';
import { type ConnectOptions, connect, type Endpoint } from '../../transport/connect.ts';
import type { Connection } from '../../transport/connection.ts';
import { type ChosenProvider, chooseProvider } from '../../transport/provider.ts';
import type { TurnLimits } from '../../transport/turns.ts';
import { untilUp } from '../../transport/until-up.ts';
import { throwIfAborted } from '../../transport/wait.ts';
import type { Trust } from '../../trust/handshake.ts';
import { openTrust } from '../../trust/open.ts';
import { connected, type Ending, failed } from '../journal.ts';
import { tellLinks } from '../link-changes.ts';
import { GuestControl } from '../live/guest-control.ts';
import { Migration } from '../migration.ts';
import {
  checkLiveOptions,
  checkMaxBandwidth,
  checkRunOptions,
  checkSourceOptions,
} from '../option-schema.ts';
import {
  channelsWanted,
  checkSwitchover,
  commitTimeoutMs,
  connectionOptions,
  type LiveOptions,
  type LiveParameters,
  liveParameters,
  resumeLimits,
  type SourceOptions,
} from '../options.ts';
import { lockable } from '../pins/lockable.ts';
import { pinGranule } from '../pins/pin-window.ts';
import {
  agreedBudget,
  CONTROL_BUFFER_BYTES,
  type PinPlan,
  pinPolicy,
  planPins,
  stagingBytes,
} from '../pins/pinning.ts';
import { tellProtection } from '../protection.ts';
import { describe, type MigrationFacts, type MigrationResult } from '../result.ts';
import { TotalLimit } from '../total-limit.ts';
import { namingMigration } from '../unknown-outcome.ts';
import { checkSourceVm } from '../vm-schema.ts';
import { dialRails } from './rails.ts';
import { type SentSummary, SourceSession } from './source-session.ts';

/**
 * Sends one VM to a waiting destination: QEMU's `-incoming rdma:host:port`, or a {@link MigrationDestination}.
 *
 * @example
 * const source = new MigrationSource(vm, 'rdma:host:4444', { pinAll: true });
 * const result = await source.migrate({ signal });
 */
export class MigrationSource extends Migration {
  /** Which migration this is, a random UUID; a destination that is an rdma-migrate is told. See {@link MigrationFacts.migrationId}. */
  readonly migrationId = randomUUID() as string;
  readonly #vm: SourceVm;
  readonly #uri: string;
  readonly #options: SourceOptions;
  readonly #stopNow = new AbortController();
  #liveOptions: LiveOptions;
  #live: LiveParameters;
  #maxBandwidth: bigint;
  /** A destination has said where the RAM goes: it is not asked again whether it has room. */
  #admitted = false;
  #connection: Connection | undefined;
  #guest: GuestControl | undefined;
  readonly #abort = new AbortController();
  #running: Promise<unknown> = Promise.resolve();

  /**
   * The VM stays the caller's: it is read, never changed, and the caller closes it. One with a `guest` is moved while it runs.
   * @throws MigrationError INVALID_ARGUMENT; also for a `guest` that could never be stopped within `live.downtimeLimitMs`
   */
  constructor(vm: SourceVm, uri: string, options: SourceOptions = {}) {
    super('source', 'connect', options?.logger);
    checkSourceVm(vm);
    checkSourceOptions(options);
    this.#vm = vm;
    this.#uri = uri;
    this.#options = options;
    this.#liveOptions = options.live ?? {};
    this.#live = liveParameters(this.#liveOptions);
    this.#checkSwitchover(this.#live);
    if (options.continue && vm.guest)
      throw invalid('continue is for a VM that stands still: this one has a guest');
    this.#maxBandwidth = options.maxBandwidth ?? 0n;
  }

  /**
   * QEMU's `max-bandwidth`, bytes per second, 0 for no limit; at any time. It does not limit a live migration any more that has
   * stopped its guest.
   * @throws MigrationError INVALID_ARGUMENT; RESOURCE_LIMIT when the system gives no thread that could pace
   */
  setMaxBandwidth(bytesPerSecond: bigint): void {
    checkMaxBandwidth(bytesPerSecond);
    this.#maxBandwidth = bytesPerSecond;
    if (!this.#guest?.isPaused) this.#connection?.setMaxBandwidth(bytesPerSecond);
  }

  /** Changes what is allowed to a running guest, from the next round on. @throws MigrationError INVALID_ARGUMENT */
  setLive(options: LiveOptions): void {
    checkLiveOptions(options);
    const merged = { ...this.#liveOptions, ...options };
    const live = liveParameters(merged);
    // What a VMM has said meanwhile is no reason to refuse another option.
    if (options.downtimeLimitMs !== undefined) this.#checkSwitchover(live);
    this.#live = live;
    this.#liveOptions = merged;
  }

  #checkSwitchover(live: LiveParameters): void {
    if (this.#vm.guest) checkSwitchover(this.#vm.guest.switchoverMs ?? 0, live);
  }

  /** Stops a running guest now and sends the rest, however long that takes. */
  stopAndCopy(): void {
    this.#stopNow.abort();
  }

  /**
   * Runs the migration, once.
   * @throws MigrationError with the phase it failed in. Unless the code is COMMIT_UNKNOWN the VM at the source is as it was and may
   *   go on running, and a guest that was running does; with COMMIT_UNKNOWN the destination may have it: look there first.
   */
  async migrate(options: { signal?: AbortSignal } = {}): Promise<MigrationResult> {
    checkRunOptions(options);
    this.begin('this migration has been started already');
    const { signal } = options;
    const run = this.#migrate(AbortSignal.any([this.#abort.signal, ...(signal ? [signal] : [])]));
    const ended = run.then((ending) => this.end(ending));
    this.#running = ended.catch(() => {});
    return ended;
  }

  /** Never throws. */
  async #migrate(signal: AbortSignal): Promise<Ending> {
    try {
      using limit = new TotalLimit(this.#options.totalTimeoutMs, () => this.journal.phase);
      return { facts: await this.#run(AbortSignal.any([signal, limit.signal])) };
    } catch (error) {
      const failure = toMigrationError(error, this.journal.phase);
      return failed(namingMigration(failure, this.migrationId), failure.phase);
    }
  }

  /** Gives up a migration that has not begun; one that is under way fails with CANCELLED, as with its signal. Idempotent. */
  async close(): Promise<void> {
    this.#abort.abort(new MigrationError('CANCELLED', this.journal.phase, 'the source was closed'));
    await this.#running;
    this.abandon();
  }

  /** The same as `close`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #run(signal: AbortSignal): Promise<MigrationFacts> {
    throwIfAborted(signal, 'configure');
    const endpoint = parseRdmaUri(this.#uri);
    const { tls, waitMs = 0 } = this.#options;
    const trust = tls && (await openTrust(tls, 'client', endpoint.host));
    throwIfAborted(signal, 'configure');
    const options = connectionOptions(this.#options, trust);
    return untilUp(() => this.#attempt(endpoint, options, trust, signal), {
      waitMs,
      signal,
      mayRepeat: ({ code }) => this.#mayRepeat(code),
      onWaiting: ({ code, message }, leftMs) => {
        const text = `the destination is not up yet, trying again for ${Math.ceil(leftMs / 1000)} s: ${message}`;
        this.journal.notice('WAITING_FOR_PEER', text, { why: code, leftMs: Math.round(leftMs) });
      },
    });
  }

  /** A destination that takes nobody just now may say so before it has taken the VM only: until then nothing has happened, and no guest is watched. */
  #mayRepeat(code: ErrorCode): boolean {
    const { phase } = this.journal;
    if (phase === 'connect') return true;
    return code === 'BUSY' && !this.#admitted && (phase === 'negotiate' || phase === 'setup');
  }

  /** The migration, from the connection on. */
  async #attempt(
    endpoint: Endpoint,
    options: ConnectOptions,
    trust: Trust | undefined,
    signal: AbortSignal,
  ): Promise<MigrationFacts> {
    this.journal.enter('connect');
    const { connection, offer, plan, provider } = await this.#connect(endpoint, options, trust, signal);
    if (plan.notice !== undefined) this.journal.notice('PIN_LIMIT', plan.notice);
    this.#connection = connection;
    try {
      const since = this.journal.at();
      const agreed = this.#negotiate(connection, offer);
      this.journal.tell(connected(connection, agreed, { since, migrationId: this.migrationId }));
      tellProtection(connection, this.journal);
      tellLinks(connection, this.journal, resumeLimits(this.#options)?.windowMs ?? 0);
      connection.setMaxBandwidth(this.#maxBandwidth);
      const limits = { timeoutMs: options.stallTimeoutMs, signal };
      // The destination waits meanwhile, and must not take the source for lost.
      const timeoutMs = Math.ceil(Math.min(options.connectTimeoutMs, options.stallTimeoutMs / 4));
      const notice = (message: string): void => this.journal.notice('FEWER_CHANNELS', message);
      const dial = (): Promise<void> =>
        dialRails(connection, { endpoint, agreed, timeoutMs, signal, notice });
      const summary = await this.#send(connection, agreed, plan, limits, dial);
      const { migrationId } = this;
      return describe(connection, agreed, provider, this.#vm.layout.machine, { ...summary, migrationId });
    } catch (error) {
      const failure = toMigrationError(error, this.journal.phase);
      await connection.fail(failure);
      throw failure;
    } finally {
      this.#connection = undefined;
      await connection.close();
    }
  }

  /** Once. Which provider leads to the destination is asked each time: a name that was not known says so only now. */
  async #connect(
    endpoint: Endpoint,
    options: ConnectOptions,
    trust: Trust | undefined,
    signal: AbortSignal,
  ): Promise<Link> {
    const provider = await chooseProvider(this.#options.provider ?? 'auto', endpoint, 'connect');
    throwIfAborted(signal, 'configure');
    const plan = this.#planPins(provider);
    const offer = { ...this.#offer(plan, provider), tls: trust !== undefined };
    this.journal.tell({ type: 'link', state: 'connecting', provider: provider.name });
    const connection = await connect(provider.name, endpoint, requestCapabilities(offer), options, signal);
    return { connection, offer, plan, provider };
  }

  async #send(
    connection: Connection,
    agreed: Agreed,
    plan: PinPlan,
    limits: TurnLimits,
    dialRails: () => Promise<void>,
  ): Promise<SentSummary> {
    // With the peer lost, the guest does not wait for a call into its VMM.
    const signal = AbortSignal.any([connection.ended, ...(limits.signal ? [limits.signal] : [])]);
    const guest = this.#vm.guest && new GuestControl(this.#vm.guest, { ...limits, signal });
    this.#guest = guest;
    const controls = { parameters: () => this.#live, stopNow: this.#stopNow.signal };
    const session = new SourceSession({
      vm: this.#vm,
      hints: this.#hints,
      pinBudget: agreedBudget(plan.budget, agreed.pinBudget, this.#granule),
      migrationId: this.migrationId,
      map: this.map,
      admitted: () => {
        this.#admitted = true;
      },
      connection,
      agreed,
      journal: this.journal,
      limits,
      dialRails,
      verify: this.#options.verify ?? false,
      commitTimeoutMs: commitTimeoutMs(this.#options),
      ...(guest ? { live: { guest, controls } } : {}),
    });
    let summary: SentSummary;
    try {
      summary = await session.run();
    } catch (error) {
      const failure = toMigrationError(error, this.journal.phase);
      // The guest first: the peer may be told a moment later.
      const outcome = await this.#giveBack(guest, failure);
      await connection.fail(failure);
      throw outcome;
    } finally {
      await session.close().catch(() => {}); // the connection's close() frees what is left
    }
    await guest?.leave();
    return summary;
  }

  /** The error to report: the failure, or that the guest could not be given back after it. */
  async #giveBack(guest: GuestControl | undefined, failure: MigrationError): Promise<MigrationError> {
    if (failure.code === 'COMMIT_UNKNOWN') {
      await guest?.leave();
      return failure;
    }
    const problem = await guest?.giveBack(failure.phase);
    if (problem === undefined) return failure;
    const why = problem instanceof Error ? problem.message : String(problem);
    return new MigrationError(
      'GUEST_ERROR',
      failure.phase,
      `the migration failed (${failure.code}: ${failure.message}), and the guest could not be given back: ${why}. It is the source's: let it ` +
        'go on there by hand',
      { cause: failure },
    );
  }

  get #hints(): HintBook | undefined {
    const { hints } = this.#options;
    return hints && bookOf(hints);
  }

  get #granule(): bigint {
    return pinGranule(this.#vm.blocks.map(({ mapping }) => mapping.pageSize));
  }

  /** Before anything is sent: only a device pins. */
  #planPins(provider: ChosenProvider): PinPlan {
    const { blocks } = this.#vm;
    this.#hints?.check(blocks, this.#options.verify ?? false);
    const copied = sentOf(this.#vm);
    const channels = channelsWanted(this.#options, provider.name);
    return planPins(pinPolicy(this.#options), {
      ramBytes: totalBytes(blocks.filter(({ name }) => !copied.has(name))),
      granule: this.#granule,
      lockable: provider.name === 'verbs' ? lockable() : undefined,
      reserve: CONTROL_BUFFER_BYTES + (copied.size > 0 ? stagingBytes(channels) : 0n),
    });
  }

  #offer({ pinAll }: PinPlan, provider: ChosenProvider): SourceOffer {
    return {
      pinAll,
      commit: this.#options.commit !== 'off',
      sparse: true,
      alive: true,
      progress: true,
      description: this.#vm.description !== undefined,
      softwareRnic: provider.name === 'iwarp',
      migrationId: this.migrationId,
      unchecked: this.#options.crc === false,
      continues: this.#options.continue === true,
      resume: provider.name === 'iwarp' && resumeLimits(this.#options) !== undefined,
      channels: channelsWanted(this.#options, provider.name),
      ramBytes: totalBytes(this.#vm.blocks),
    };
  }

  #negotiate(connection: Connection, offer: SourceOffer): Agreed {
    this.journal.enter('negotiate');
    const agreed = acceptCapabilities(connection.privateData, offer);
    connection.tellsReasons = agreed.reasons;
    requireCommit(this.#options, agreed);
    if (offer.pinAll && !agreed.pinAll) {
      const message = 'the destination declined pin-all: registering dynamically';
      this.journal.notice('PIN_ALL_DECLINED', message);
    }
    if (offer.continues && !agreed.continues) {
      const message =
        'the destination has nothing of an earlier try that could be gone on from: everything is sent';
      this.journal.notice('NOTHING_TO_CONTINUE', message);
    }
    return agreed;
  }
}

/** A destination that has let this end in, and what was asked of it. */
interface Link {
  readonly connection: Connection;
  readonly offer: SourceOffer;
  readonly plan: PinPlan;
  readonly provider: ChosenProvider;
}

/** What the caller asked for and cannot have without the handshake is an error before anything moves. */
function requireCommit({ commit, verify }: SourceOptions, agreed: Agreed): void {
  if (agreed.commit || (commit !== 'require' && verify !== true)) return;
  const what = verify
    ? 'RAM is compared (verify) as a part of it: migrate without verify, or to an rdma-migrate with commit auto'
    : 'commit is required: allow commit auto to send to it';
  throw new MigrationError(
    'VERSION_MISMATCH',
    'negotiate',
    `the destination has no commit handshake (a stock QEMU has none, an rdma-migrate with commit off neither), and ${what}`,
  );
}

const totalBytes = (blocks: readonly RamBlock[]): bigint =>
  blocks.reduce((sum, { length }) => sum + length, 0n);
