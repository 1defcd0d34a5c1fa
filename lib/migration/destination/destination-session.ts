import { MigrationError, type Phase, toMigrationError } from '../../errors.ts';
import type { Agreed } from '../../protocol/capabilities.ts';
import { type Commit, SentDigest } from '../../protocol/commit.ts';
import type { ControlMessage } from '../../protocol/control.ts';
import { type StreamEvent, StreamParser } from '../../protocol/stream.ts';
import { DeviceStateCheck } from '../../protocol/tail.ts';
import { type Coverage, WHOLE } from '../../ram/coverage.ts';
import type { RamMap } from '../../ram/ram-map.ts';
import type { DestinationTarget, RamBlock, VmLayout } from '../../ram/vm.ts';
import type { Connection, Received } from '../../transport/connection.ts';
import { DestinationTurns, type TurnLimits } from '../../transport/turns.ts';
import { unlessAborted, within } from '../../transport/wait.ts';
import { call } from '../embedder.ts';
import type { Journal } from '../journal.ts';
import type { TouchedAhead } from '../options.ts';
import { Registrations } from '../pins/registrations.ts';
import { checkAllocated } from '../vm-schema.ts';
import { Arrivals, tellsWrites } from './arrivals.ts';
import { ArrivedMap } from './arrived-map.ts';
import { type DestinationAction, type DestinationState, step } from './destination-machine.ts';
import { answerCommit, type Handover, keep } from './handover.ts';
import { Passes } from './passes.ts';
import { RamRequests } from './ram-requests.ts';
import { type Told, ToldPages } from './told-pages.ts';

/** What a session reports when the VM is whole. */
export interface ReceivedSummary {
  readonly layout: VmLayout;
  readonly deviceStateBytes: number;
  /** The source has been told that the VM is here. */
  readonly committed: boolean;
  readonly coverage: Coverage;
  readonly pinBudget?: bigint;
  readonly registeredPeak: bigint;
}

interface Context {
  readonly connection: Connection;
  readonly target: DestinationTarget;
  readonly migrationId: string;
  readonly agreed: Agreed;
  /** The source's first message, which has been asked for already. */
  readonly first: Received;
  readonly journal: Journal;
  readonly limits: TurnLimits;
  /** The longest wait for COMMIT, and for the target to make the VM durable. */
  readonly commitTimeoutMs: number;
  readonly touchedAhead: TouchedAhead;
  /** What may be registered at one time, whoever the source is. */
  readonly pinBudget: bigint | undefined;
  /** Somebody looks at where RAM stands. */
  readonly map: RamMap | undefined;
  /** The source has all channels that it will have. */
  readonly setupEnded: () => void;
  /** Whether so much RAM may come, and be pinned; asked before anything is allocated. */
  readonly checkRam: (ramBytes: bigint) => void;
}

/** The destination's half of one migration, over an established connection. One `run`. */
export class DestinationSession {
  readonly #context: Context;
  readonly #turns: DestinationTurns;
  readonly #account = new SentDigest();
  readonly #parser = new StreamParser('rdma');
  readonly #deviceState = new DeviceStateCheck();
  readonly #failure = new AbortController();
  /** Until the migration is given up or the connection has ended. */
  readonly #alive: AbortSignal;
  #state: DestinationState = { name: 'stream' };
  #machine = '';
  #pageSize = 0;
  #layout: VmLayout | undefined;
  #blocks: readonly RamBlock[] = [];
  #registrations: Registrations | undefined;
  #ram: RamRequests | undefined;
  readonly #arrivals: Arrivals;
  readonly #passes: Passes;
  /** Of a source that confirms nothing. The commit handshake says itself what was sent. */
  #told: ToldPages | undefined;
  #coverage = WHOLE;
  #deviceStateBytes = 0;

  constructor(context: Context) {
    const signals = [this.#failure.signal, ...(context.limits.signal ? [context.limits.signal] : [])];
    const signal = AbortSignal.any(signals);
    this.#context = { ...context, limits: { ...context.limits, signal } };
    this.#alive = AbortSignal.any([context.connection.ended, signal]);
    this.#turns = new DestinationTurns(
      context.connection,
      this.#context.limits,
      this.#account,
      context.first,
    );
    const { connection, agreed } = context;
    this.#arrivals = new Arrivals({
      placed: tellsWrites(connection) ? () => connection.stats().writeBytesPlaced : undefined,
      sparse: agreed.sparse,
      pins: () => this.#registrations,
    });
    this.#passes = new Passes(context.journal, this.#arrivals, agreed.extended);
  }

  /**
   * Serves the source until the VM is whole and durable.
   * @throws MigrationError; the target has then not been committed and is the caller's to abort. COMMIT_UNKNOWN: it was told to abort, and
   *   nobody knows which it will be: the source must not hear of a failure
   */
  async run(): Promise<ReceivedSummary> {
    this.#enter('setup');
    this.#context.journal.watch(this.#arrivals);
    const commit = await this.#serve();
    // Whatever rails have carried has been placed: the source has asked on each before it said COMMIT.
    this.#context.connection.rails.release();
    await this.#registrations?.settled();
    // Again: each has answered the source's barrier by now, and the last may have come up with it.
    this.#tellChannels();
    this.#enter('commit');
    // Before anything is counted, compared or kept: what has landed by now is the VM, and nothing can change it any more.
    await this.#context.connection.revokeRemoteAccess(this.#context.limits);
    this.#requireWholeStream();
    const handover = this.#handover();
    const committed = commit !== undefined && (await answerCommit(handover, commit));
    if (!commit) await keep(handover, 'vmdescription');
    return {
      layout: this.#layout as VmLayout,
      deviceStateBytes: this.#deviceStateBytes,
      committed,
      coverage: this.#coverage,
      ...this.#pinFacts(),
    };
  }

  #tellChannels(): void {
    const { journal, connection } = this.#context;
    journal.tell({ type: 'link', state: 'channels', channels: connection.rails.channels });
  }

  #pinFacts(): { pinBudget?: bigint; registeredPeak: bigint } {
    const budget = this.#context.agreed.pinAll ? undefined : this.#budget();
    return { ...(budget !== undefined && { pinBudget: budget }), registeredPeak: this.#registered().peak };
  }

  #budget(): bigint | undefined {
    return this.#context.agreed.pinBudget ?? this.#context.pinBudget;
  }

  /** Until COMMIT, or a v1 source's disconnect after a whole stream. */
  async #serve(): Promise<Commit | undefined> {
    for (;;) {
      if (this.#state.name === 'device' && !this.#state.commit && this.#deviceState.result().complete) {
        this.#coverage = this.#told?.coverage(this.#deviceState.result()) ?? WHOLE;
        return this.#awaitDisconnect();
      }
      const { limits, commitTimeoutMs } = this.#context;
      const mayBeCommit = this.#state.name === 'device' && this.#state.commit;
      const message = await this.#next(
        mayBeCommit ? Math.max(commitTimeoutMs, limits.timeoutMs) : limits.timeoutMs,
      );
      const next = step(this.#state, message);
      this.#state = next.state;
      if (next.action.do === 'commit') return next.action.commit;
      await this.#perform(next.action);
    }
  }

  /** @throws MigrationError what the stream is known for, where the source gives up after it; else why there is no message */
  async #next(timeoutMs: number): Promise<ControlMessage> {
    try {
      return await this.#turns.next(timeoutMs);
    } catch (error) {
      const { suspicion } = this.#parser;
      throw suspicion && this.#context.connection.ended.aborted ? suspicion : error;
    }
  }

  async #perform(action: Exclude<DestinationAction, { do: 'commit' }>): Promise<void> {
    switch (action.do) {
      case 'feed-stream':
        this.#arrivals.stream(action.bytes.length);
        this.#parser.push(action.bytes);
        return this.#parse();
      case 'resume-stream':
        this.#passes.ends();
        return this.#parse();
      case 'wait-on':
        return this.#require('ALIVE', this.#context.agreed.alive);
      case 'note-progress':
        this.#require('PROGRESS', this.#context.agreed.progress);
        return this.#passes.note(action.account);
      case 'append-device-state':
        return this.#appendDeviceState(action.bytes);
      case 'describe':
        return this.#describe(action.bytes);
      case 'announce-blocks':
        return this.#requests().announce();
      case 'digest':
        this.#require('DIGESTS_REQUEST', this.#context.agreed.continues === true);
        return this.#requests().digests(action.request);
      case 'zero':
        return this.#requests().zero(action.command);
      case 'register':
        return this.#requests().register(action.commands);
      case 'unregister':
        return this.#requests().unregister(action.commands);
    }
  }

  /** Before the source is told where RAM goes. */
  async #describe(bytes: Uint8Array): Promise<void> {
    const { agreed, target, limits } = this.#context;
    this.#require('DESCRIPTION', agreed.description === true);
    const checked = call(async () => target.describe?.(Buffer.from(bytes)));
    const what = 'the target to look at the description of the VM';
    // The source waits as long as that for all of it: this end has to be the first to say why.
    const timeoutMs = limits.timeoutMs / 2;
    await within(checked, { phase: 'setup', timeoutMs, signal: this.#alive, what, waitingFor: 'vmm' });
  }

  #require(received: 'ALIVE' | 'PROGRESS' | 'DESCRIPTION' | 'DIGESTS_REQUEST', agreed: boolean): void {
    if (agreed) return;
    const message = `the source sent ${received}, which has not been agreed on`;
    throw new MigrationError('PROTOCOL_ERROR', 'ram', message, { details: { received } });
  }

  /** Takes the stream as far as it goes: to a hook, to the device state, or to where bytes are missing. */
  async #parse(): Promise<void> {
    for (let event = this.#parser.next(); event; event = this.#parser.next()) {
      await this.#handle(event);
      if (this.#state.name !== 'stream') return;
    }
  }

  async #handle(event: StreamEvent): Promise<void> {
    switch (event.type) {
      case 'configuration':
        this.#machine = event.machine;
        this.#pageSize = event.pageSize;
        return;
      case 'ram-start':
        return this.#allocate(event);
      case 'hook':
        if (event.section !== 'start') this.#passBegins();
        this.#state = { name: 'hook', section: event.section, blocksAnnounced: false };
        return;
      case 'ram-end':
        this.#passes.ramEnds();
        this.#enter('device-state');
        this.#state = { name: 'device', commit: this.#context.agreed.commit };
        return this.#appendDeviceState(this.#parser.takeBuffered());
      case 'pages':
        throw new MigrationError(
          'STREAM_ERROR',
          'ram',
          'the stream carries pages in line, which RDMA migration never does',
        );
    }
  }

  #passBegins(): void {
    if (this.#passes.count === 0) {
      this.#context.setupEnded();
      this.#tellChannels();
      this.#enter('ram');
    }
    this.#passes.begins(Number(sizeOf(this.#blocks)));
  }

  async #allocate(event: Extract<StreamEvent, { type: 'ram-start' }>): Promise<void> {
    const { journal, target, connection, agreed, limits } = this.#context;
    const { blocks, section } = event;
    this.#layout = { machine: this.#machine, pageSize: this.#pageSize, blocks };
    const total = sizeOf(blocks);
    journal.tell({ type: 'link', state: 'ram', total: Number(total), 'page-size': this.#pageSize });
    this.#context.checkRam(total);
    this.#arrivals.blocks(blocks.map(({ length }) => length));
    const { before } = this.#parser;
    const continues = agreed.continues && { continues: true as const };
    const vm = { layout: this.#layout, ramSection: section, before, ...continues };
    const allocated = call(() => target.allocate(vm));
    this.#blocks = checkAllocated(this.#layout, await unlessAborted(allocated, this.#alive, 'setup'));
    if (!agreed.commit) this.#told = new ToldPages(connection, this.#blocks, agreed, this.#pageSize);
    this.#registrations = new Registrations(connection, this.#blocks, {
      touchedAhead: this.#context.touchedAhead,
      budget: this.#budget(),
      budgetAgreed: this.#context.agreed.pinBudget !== undefined,
      onFailure: (error) => this.#failure.abort(toMigrationError(error, 'ram')),
      signal: limits.signal as AbortSignal,
    });
    this.#ram = new RamRequests({
      ...this.#context,
      turns: this.#turns,
      blocks: this.#blocks,
      registrations: this.#registrations,
      arrivals: this.#arrivals,
      told: this.#mapRam() ?? this.#told,
      alive: this.#alive,
    });
  }

  /** Whoever hears of the pages now, if that is the map alone. */
  #mapRam(): Told | undefined {
    const { map, connection } = this.#context;
    if (map === undefined) return undefined;
    const seen = this.#told?.seen;
    if (seen !== undefined) map.open(new ArrivedMap(this.#blocks, this.#pageSize, seen));
    if (this.#told !== undefined) return undefined;
    const watched = ArrivedMap.watch(connection, this.#blocks, this.#pageSize);
    if (watched) map.open(watched);
    return watched;
  }

  /** The state machine lets nothing of RAM come before its blocks. */
  #requests(): RamRequests {
    return this.#ram as RamRequests;
  }

  #registered(): Registrations {
    return this.#registrations as Registrations;
  }

  async #appendDeviceState(bytes: Uint8Array): Promise<void> {
    if (bytes.length === 0) return;
    this.#deviceStateBytes += bytes.length;
    this.#arrivals.stream(bytes.length);
    this.#deviceState.push(bytes);
    const { target, limits } = this.#context;
    await unlessAborted(
      call(() => target.append(bytes)),
      limits.signal,
      'device-state',
    );
  }

  /** A v1 source says nothing at the end: it disconnects after the last bytes. */
  async #awaitDisconnect(): Promise<undefined> {
    const end = await this.#context.connection.waitForEnd(this.#context.limits);
    if (!end.orderly) throw end.error;
    this.#requireWholeStream();
    return undefined;
  }

  #handover(): Handover {
    return {
      ...this.#context,
      turns: this.#turns,
      account: this.#account,
      blocks: this.#blocks,
      coverage: this.#coverage,
    };
  }

  #requireWholeStream(): void {
    const { complete, reason } = this.#deviceState.result();
    if (!complete)
      throw new MigrationError('STREAM_TRUNCATED', 'commit', `the device state is not whole: ${reason}`);
  }

  #enter(phase: Phase): void {
    this.#context.connection.phase = phase;
    this.#context.journal.enter(phase);
  }
}

const sizeOf = (blocks: readonly { readonly length: bigint }[]): bigint =>
  blocks.reduce((sum, { length }) => sum + length, 0n);
