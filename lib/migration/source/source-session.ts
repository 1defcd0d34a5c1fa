import type { Phase } from '../../errors.ts';
import { COUNTER } from '../../native/transport.ts';
import type { Agreed } from '../../protocol/capabilities.ts';
import { SentDigest } from '../../protocol/commit.ts';
import { CONTROL_HEADER_BYTES, type ControlMessage, QEMU_FILE_BYTES } from '../../protocol/control.ts';
import { encodeEos, encodeFooter, encodeRamRound, encodeRamStart } from '../../protocol/stream-encode.ts';
import { digestRam } from '../../ram/digest.ts';
import type { HintBook } from '../../ram/hint-book.ts';
import type { RamMap } from '../../ram/ram-map.ts';
import type { SourceVm } from '../../ram/vm.ts';
import type { Connection } from '../../transport/connection.ts';
import { SourceTurns, type TurnLimits } from '../../transport/turns.ts';
import { throwIfAborted, unlessAborted, within } from '../../transport/wait.ts';
import { checkDeviceState, deviceStateOf } from '../device-state.ts';
import { call } from '../embedder.ts';
import { Heartbeat } from '../heartbeat.ts';
import type { Journal } from '../journal.ts';
import type { DowntimePart } from '../live/downtime.ts';
import type { GuestControl } from '../live/guest-control.ts';
import { type LiveControls, preCopy, type RamRound } from '../live/pre-copy.ts';
import type { LocalKeys, SourcePins } from '../pins/source-pins.ts';
import type { RamPassResult, SourceBlock } from '../ram-round.ts';
import type { ControlCosts } from '../result.ts';
import { continueFrom } from './continued.ts';
import { addPass, NO_PASSES } from './control-costs.ts';
import { isRefusal, pastCancel, refused, unknownOutcome } from './outcome.ts';
import { pinHere, prepareBlocks, preparePins } from './prepare.ts';
import { sendRam } from './ram-pass.ts';
import { outstandingBytes, SentMap } from './sent-map.ts';
import { SentMeter } from './sent-meter.ts';
import { awaitOrderlyEnd, unconfirmedEnd } from './version-1-end.ts';
import { passCosts, wireTimeOf } from './wire-time.ts';

/** How long a disconnect may take once everything has been said. */
const DISCONNECT_MS = 5_000;
/** How long a migration that has failed waits for what is still being pinned; pinning itself cannot be stopped. */
const PINNING_MS = 5_000;

interface Context {
  readonly migrationId: string;
  readonly vm: SourceVm;
  readonly connection: Connection;
  readonly agreed: Agreed;
  readonly journal: Journal;
  readonly limits: TurnLimits;
  /** Makes the further channels that were granted, or goes on with fewer. */
  readonly dialRails: () => Promise<void>;
  readonly verify: boolean;
  /** The longest wait for the destination's word that the VM is durable there. */
  readonly commitTimeoutMs: number;
  /** Of both ends; absent: none. */
  readonly pinBudget: bigint | undefined;
  readonly hints: HintBook | undefined;
  /** Somebody looks at where RAM stands. */
  readonly map: RamMap | undefined;
  /** The destination takes this VM: it has room for it. */
  readonly admitted: () => void;
  /** Present: the guest runs. */
  readonly live?: { readonly guest: GuestControl; readonly controls: LiveControls };
}

/** What a session reports when everything has been sent. */
export interface SentSummary {
  readonly deviceStateBytes: number;
  readonly committed: boolean;
  readonly pinBudget?: bigint;
  readonly registeredPeak: bigint;
  readonly continued?: bigint;
  readonly control: ControlCosts;
}

/**
 * The source's half of one migration, over an established connection. One `run`:
 *
 * ```text
 * setup         before + ram START | RAM_BLOCKS_REQUEST, further channels, REGISTER_FINISHED | EOS
 * ram (live)    FOOTER + ram PART  | COMPRESS, REGISTER_REQUEST, WRITEs, REGISTER_FINISHED | EOS    each round
 * ram           FOOTER + ram END   | the same
 * device-state  FOOTER + device state
 * commit        COMMIT, COMMITTED  (extension)
 * ```
 */
export class SourceSession {
  readonly #context: Context;
  readonly #turns: SourceTurns;
  readonly #account = new SentDigest();
  readonly #cancel: AbortSignal | undefined;
  readonly #meter: SentMeter;
  #blocks: SourceBlock[] = [];
  #sentMap: SentMap | undefined;
  #pins: SourcePins | undefined;
  /** pin-all: begun while the destination registers its RAM. */
  #pinned: Promise<LocalKeys> | undefined;
  #passes = NO_PASSES;
  /** Bytes that an earlier try has left at the destination; where that was asked. */
  #continued: bigint | undefined;

  constructor(context: Context) {
    const { connection, limits } = context;
    // A lost peer or its ERROR ends every step at once.
    const signal = AbortSignal.any([connection.ended, ...(limits.signal ? [limits.signal] : [])]);
    this.#context = { ...context, limits: { ...limits, signal } };
    this.#turns = new SourceTurns(connection, limits, this.#account);
    this.#cancel = limits.signal;
    const { counters } = connection;
    this.#meter = new SentMeter(
      () => counters[COUNTER.bytesCompleted] as bigint,
      () => this.#pins,
    );
  }

  /** @throws MigrationError; COMMIT_UNKNOWN when the destination may have the VM and could not say so */
  async run(): Promise<SentSummary> {
    const { agreed, limits } = this.#context;
    using _ = new Heartbeat(this.#turns, {
      aliveWithinMs: agreed.alive ? limits.timeoutMs : undefined,
      progress: agreed.progress ? () => this.#progress() : undefined,
    });
    await this.#setup();
    await this.#checkDeviceState();
    this.#enter('ram');
    const sent = await this.#moveRam();
    this.#enter('device-state');
    const deviceStateBytes = await this.#sendDeviceState();
    if (agreed.commit) {
      await this.#commit(sent);
      this.#stoodStill('commit');
    }
    await this.#disconnect();
    // A version 1 destination's only word.
    if (!agreed.commit) this.#stoodStill('commit');
    const continued = this.#continued !== undefined && { continued: this.#continued };
    const facts = { ...this.#pinFacts(), ...continued, control: this.#control() };
    return { deviceStateBytes, committed: agreed.commit, ...facts };
  }

  /** Not to keep a guest waiting that stands still. */
  #progress(): ControlMessage | undefined {
    const { journal, live } = this.#context;
    const pass = live?.guest.isPaused ? undefined : journal.pass;
    if (pass?.pending === undefined) return undefined;
    const { round, pending } = pass;
    return { type: 'PROGRESS', round, pending, ...this.#meter.account };
  }

  /** For what the guest has waited, if there is one that ran. */
  #stoodStill(ended: DowntimePart): void {
    const { journal, live } = this.#context;
    if (live) journal.tell({ type: 'downtime', ended });
  }

  /** Before RAM moves. A running guest's is known when it stands still, and a QEMU needs no proof. */
  async #checkDeviceState(): Promise<void> {
    const { agreed, vm, limits } = this.#context;
    if (agreed.extended && !vm.guest) await checkDeviceState(vm, limits);
  }

  #pinFacts(): { pinBudget?: bigint; registeredPeak: bigint } {
    const { pinBudget, agreed } = this.#context;
    const budget = pinBudget === undefined || agreed.pinAll ? {} : { pinBudget };
    return { ...budget, registeredPeak: this.#pins?.peak ?? 0n };
  }

  #control(): ControlCosts {
    return { messages: this.#turns.costs.messages, ...this.#passes };
  }

  /** Gives up what is registered still; the connection has ended, or does next. Idempotent. Never throws: it is known already who has the VM. */
  async close(): Promise<void> {
    this.#context.hints?.detach();
    this.#context.map?.close();
    // So that memory is not pinned any more when the embedder hears. What takes longer the connection gives up as soon as it is pinned.
    const settling = { phase: 'setup', timeoutMs: PINNING_MS, what: 'memory to be pinned' } as const;
    if (this.#pinned) await within(this.#pinned, settling).catch(() => {});
    await this.#pins?.close().catch(() => {});
  }

  #moveRam(): Promise<RamPassResult> {
    const { live, vm, connection, journal, limits } = this.#context;
    if (live === undefined) return this.#onlyPass();
    const settling = new Set(vm.guest?.settling);
    const blocks = (settles: boolean): SourceBlock[] =>
      this.#blocks.filter(({ block }) => settling.has(block.name) === settles);
    return preCopy({
      guest: live.guest,
      live: live.controls,
      tracked: blocks(false),
      settling: blocks(true),
      pass: (kind) => this.#pass(kind),
      unlimit: () => connection.setMaxBandwidth(0n),
      journal,
      signal: limits.signal as AbortSignal,
    });
  }

  /** A VM that stands still is moved in one. */
  async #onlyPass(): Promise<RamPassResult> {
    const { journal, vm } = this.#context;
    const pending = ramBytes(vm) - Number(this.#continued ?? 0n);
    journal.tell({ type: 'round', state: 'begins', round: 1, pending, live: false });
    const sent = await this.#pass('end');
    journal.tell({ type: 'round', state: 'ends', round: 1 });
    return sent;
  }

  async #setup(): Promise<void> {
    this.#enter('setup');
    const { vm, journal, connection, dialRails, agreed, limits } = this.#context;
    journal.watch(this.#meter);
    journal.tell({ type: 'link', state: 'ram', total: ramBytes(vm), 'page-size': vm.layout.pageSize });
    await this.#sendStream(
      Buffer.concat([vm.before, encodeRamStart(vm.ramSection, vm.layout.blocks, 'rdma')]),
    );
    if (agreed.description && vm.description)
      await this.#turns.send({ type: 'DESCRIPTION', bytes: vm.description });
    // Asked before anything is pinned here: a destination that is not there is known of first.
    let cannotPin = (_: unknown): void => {};
    const unpinnable = new Promise<never>((_, reject) => {
      cannotPin = reject;
    });
    const asked = this.#turns.request({ type: 'RAM_BLOCKS_REQUEST' }, 'RAM_BLOCKS_RESULT', undefined, () => {
      if (!agreed.pinAll) return;
      this.#pinned = pinHere(vm, connection);
      // Told at once: the destination may take minutes over its own memory.
      this.#pinned.catch(cannotPin);
    });
    const { blocks } = await Promise.race([asked, unpinnable]);
    this.#context.admitted();
    this.#blocks = prepareBlocks(vm, blocks, this.#context.agreed.sparse);
    if (agreed.continues) this.#continued = await continueFrom(this.#blocks, this.#turns, limits.signal);
    this.#openMap();
    // The destination has let this source in, and lets its channels in until RAM moves.
    await dialRails();
    journal.tell({ type: 'link', state: 'channels', channels: connection.rails.channels });
    this.#pins = await preparePins(this.#blocks, {
      ...this.#context,
      turns: this.#turns,
      pinned: this.#pinned,
    });
    this.#context.hints?.attach(this.#blocks, this.#context.verify);
    await this.#turns.send({ type: 'REGISTER_FINISHED' });
    await this.#sendStream(encodeEos());
  }

  #openMap(): void {
    const { map, connection } = this.#context;
    if (map === undefined) return;
    this.#sentMap = new SentMap(this.#blocks, () => outstandingBytes(connection, this.#blocks));
    map.open(this.#sentMap);
  }

  async #pass(kind: 'part' | 'end'): Promise<RamRound> {
    const { vm, connection, agreed, hints, limits } = this.#context;
    const began = performance.now();
    await this.#sendStream(Buffer.concat([encodeFooter(vm.ramSection), encodeRamRound(vm.ramSection, kind)]));
    const dataBegan = performance.now();
    const turnsBefore = this.#turns.costs;
    const wireBefore = wireTimeOf(connection);
    const sent = await sendRam({
      connection,
      turns: this.#turns,
      blocks: this.#blocks,
      pins: this.#pins as SourcePins,
      ...(hints && { hints }),
      ...(this.#sentMap && { map: this.#sentMap }),
      meter: this.#meter,
      signal: limits.signal as AbortSignal,
      timeoutMs: limits.timeoutMs,
      shortWindows: agreed.extended || agreed.pinAll,
      last: kind === 'end',
    });
    const dataEnded = performance.now();
    const turnsAfter = this.#turns.costs;
    await connection.rails.barrier(limits);
    await this.#turns.send({ type: 'REGISTER_FINISHED' });
    await this.#turns.ready(); // everything has arrived
    const costs = passCosts(wireBefore, wireTimeOf(connection), dataEnded - dataBegan);
    this.#passes = addPass(this.#passes, turnsBefore, turnsAfter, costs.overheadMs);
    await this.#sendStream(encodeEos());
    return { ...sent, ...costs, controlMs: dataBegan - began + performance.now() - dataEnded };
  }

  async #sendDeviceState(): Promise<number> {
    const { vm, agreed, connection, limits } = this.#context;
    const most = agreed.extended ? connection.mostMessageBytes - CONTROL_HEADER_BYTES : QEMU_FILE_BYTES;
    let waiting: Uint8Array = encodeFooter(vm.ramSection);
    let total = 0;
    for await (const piece of deviceStateOf(vm, limits)) {
      total += piece.length;
      waiting = Buffer.concat([waiting, piece]);
      // Something stays for the last message, which says that nothing comes behind it.
      while (waiting.length > most) {
        await this.#sendStream(waiting.subarray(0, most));
        waiting = waiting.subarray(most);
      }
    }
    await this.#sendLast(waiting);
    this.#stoodStill('device-state');
    return total;
  }

  /** With it a version 1 destination has everything, and may start the VM without a word. */
  async #sendLast(bytes: Uint8Array): Promise<void> {
    if (!this.#context.agreed.commit) await this.#beforeCommit('device-state');
    await this.#turns.ready();
    // The READY may have waited here for long: until something is sent the VM is certainly the source's.
    throwIfAborted(this.#context.limits.signal, 'device-state');
    if (this.#context.agreed.commit) return this.#sendStream(bytes);
    try {
      const { timeoutMs } = this.#context.limits;
      await this.#pastCancel(this.#sendStream(bytes, { timeoutMs }), timeoutMs);
    } catch (error) {
      throw isRefusal(error) ? error : unconfirmedEnd(error);
    }
  }

  #pastCancel<T>(asked: Promise<T>, timeoutMs: number): Promise<T> {
    return pastCancel(asked, { journal: this.#context.journal, cancel: this.#cancel, timeoutMs });
  }

  async #disconnect(): Promise<void> {
    const { connection, agreed, limits } = this.#context;
    if (agreed.commit) return connection.disconnect(DISCONNECT_MS);
    const { timeoutMs } = limits;
    try {
      await this.#pastCancel(awaitOrderlyEnd(connection, timeoutMs), timeoutMs);
    } catch (error) {
      throw isRefusal(error) ? error : unconfirmedEnd(error);
    }
  }

  async #commit(sent: RamPassResult): Promise<void> {
    this.#enter('commit');
    const { verify, vm, connection, limits, commitTimeoutMs } = this.#context;
    const ramDigest = verify ? await unlessAborted(digestRam(vm.blocks), limits.signal, 'commit') : undefined;
    // Nothing has been written since the last round; COMMIT rests on that and not on what a pass does today.
    await connection.rails.barrier(limits);
    connection.rails.release();
    await this.#beforeCommit('commit');
    // After the barrier: an ALIVE that was said meanwhile has taken the turn that was there.
    await this.#turns.ready();
    throwIfAborted(limits.signal, 'commit');
    let posted = false;
    try {
      const commit = this.#account.commit(sent.bytes, ramDigest);
      const asked = this.#turns.request(
        { type: 'COMMIT', ...commit },
        'COMMITTED',
        { timeoutMs: commitTimeoutMs },
        () => {
          posted = true;
        },
      );
      const { status } = await this.#pastCancel(asked, commitTimeoutMs);
      if (status !== 'OK') throw refused(status);
    } catch (error) {
      throw isRefusal(error) || !posted ? error : unknownOutcome(error);
    }
  }

  /** The last moment at which the VM is certainly the source's. */
  async #beforeCommit(phase: Phase): Promise<void> {
    const { vm, migrationId, limits } = this.#context;
    if (vm.beforeCommit === undefined) return;
    const asked = call(() => vm.beforeCommit?.(migrationId));
    const what = "the VM's beforeCommit";
    await within(asked, {
      phase,
      timeoutMs: limits.timeoutMs,
      signal: limits.signal,
      what,
      waitingFor: 'vmm',
    });
  }

  async #sendStream(bytes: Uint8Array, limits?: TurnLimits): Promise<void> {
    this.#meter.stream(bytes.length);
    await this.#turns.send({ type: 'QEMU_FILE', bytes }, limits);
  }

  #enter(phase: Phase): void {
    this.#context.connection.phase = phase;
    this.#context.journal.enter(phase);
  }
}

const ramBytes = ({ blocks }: SourceVm): number =>
  Number(blocks.reduce((sum, { length }) => sum + length, 0n));
