/**
 * The pre-copy loop: a first pass over all RAM while the guest runs, then rounds over what it has written meanwhile, until the rest is
 * small enough to be sent within the downtime limit; then the guest stops and the last pass makes the destination's RAM equal.
 */
import type { MigrationError } from '../../errors.ts';
import type { NativeBitmap } from '../../native/memory.ts';
import { throwIfAborted } from '../../transport/wait.ts';
import type { Journal } from '../journal.ts';
import type { LiveParameters } from '../options.ts';
import type { PassCosts, RamPassResult, SourceBlock } from '../ram-round.ts';
import {
  bandwidthOf,
  type ConvergenceLimits,
  type Decision,
  decide,
  type LinkSeen,
  NO_THROTTLE,
  NOTHING_SEEN,
  type RoundFacts,
  seeLink,
  type ThrottleState,
} from './convergence.ts';
import { fixedCostsNotice, notConverged } from './convergence-words.ts';
import type { GuestControl } from './guest-control.ts';

/** A round that nothing was written in costs scanning and messages all the same: not more often than this. */
const IDLE_ROUND_MS = 20;

/** What the loop looks at again in each round: an operator may change it. */
export interface LiveControls {
  readonly parameters: () => LiveParameters;
  /** Fires when the guest is to stop now, whatever the downtime. */
  readonly stopNow: AbortSignal;
}

/** A pass, and how long its control messages took beside the data. */
export interface RamRound extends RamPassResult, PassCosts {
  readonly controlMs: number;
}

export interface PreCopyOptions {
  readonly guest: GuestControl;
  readonly live: LiveControls;
  /** The tracked blocks, and those that are sent only in the last pass. */
  readonly tracked: readonly SourceBlock[];
  readonly settling: readonly SourceBlock[];
  /** Sends every page whose bit is set. `end`: the last pass. */
  readonly pass: (kind: 'part' | 'end') => Promise<RamRound>;
  /** Lifts max-bandwidth for good: a guest that stands still is not kept waiting. */
  readonly unlimit: () => void;
  readonly journal: Journal;
  readonly signal: AbortSignal;
}

/**
 * Moves the RAM of a running guest; when it resolves the guest stands still and the destination has its RAM.
 * @throws MigrationError NOT_CONVERGED at the time limit; whatever pass, tracker and VMM throw. The caller gives the guest back.
 */
export async function preCopy(options: PreCopyOptions): Promise<RamPassResult> {
  const loop = new PreCopy(options);
  await loop.run();
  return loop.moved;
}

class PreCopy {
  readonly #options: PreCopyOptions;
  readonly #started = performance.now();
  moved: RamPassResult = { pages: 0n, bytes: 0n, zeroBytes: 0n };
  #link: LinkSeen = NOTHING_SEEN;
  #lastMs = 0;
  #rounds = 0;
  /** When the guest's writes were last collected, or the tracker began. */
  #syncedAt = 0;
  #lastMoved = 0n;
  #controlMs = 0;
  #overheadMs = 0;
  #throttle: ThrottleState = NO_THROTTLE;
  #decision: Decision | undefined;
  /** The limit that no round can meet, once that was told. */
  #hopelessMs = 0;

  constructor(options: PreCopyOptions) {
    this.#options = options;
  }

  async run(): Promise<void> {
    const { guest } = this.#options;
    await guest.track();
    this.#syncedAt = performance.now();
    await this.#preCopy();
    await this.#stopGuest();
    await this.#lastPass();
  }

  async #preCopy(): Promise<void> {
    await this.#round();
    while (!this.#options.guest.isPaused) {
      const decision = await this.#collectAndDecide();
      if (decision.verdict === 'converged') return;
      await this.#applyThrottle(decision);
      await this.#breathe();
      // What was collected is sent once the guest stands, with what it has written since.
      if (this.#options.live.stopNow.aborted) return;
      await this.#round();
    }
  }

  /** One pass while the guest runs; the time limit and an operator's word end its running, not the pass. */
  async #round(): Promise<void> {
    this.#tellBegins(this.#pendingBytes());
    const began = performance.now();
    const passed = this.#options.pass('part');
    const limit = this.#watchLimit();
    try {
      this.#account(await Promise.race([passed, limit.reached]), performance.now() - began);
      this.#tellEnds();
    } catch (error) {
      passed.catch(() => {}); // it ends with the connection
      throw error;
    } finally {
      limit.forget();
    }
  }

  /** `reached` rejects at the time limit when that cancels; a limit or word that stops the guest only pauses it. */
  #watchLimit(): { reached: Promise<never>; forget: () => void } {
    const { guest, live } = this.#options;
    let timer: NodeJS.Timeout | undefined;
    let onStop = (): void => {};
    const reached = new Promise<never>((_, reject) => {
      const stop = (): void => {
        clearTimeout(timer); // the limit is that of the guest's running
        void this.#pause(guest).catch(reject);
      };
      onStop = stop;
      if (live.stopNow.aborted) return stop();
      live.stopNow.addEventListener('abort', stop, { once: true });
      const { timeLimitMs, onTimeLimit } = live.parameters();
      if (timeLimitMs === 0) return;
      const left = Math.max(0, this.#started + timeLimitMs - performance.now());
      timer = setTimeout(onTimeLimit === 'cancel' ? () => reject(this.#notConverged()) : stop, left);
    });
    const forget = (): void => {
      clearTimeout(timer);
      live.stopNow.removeEventListener('abort', onStop);
    };
    return { reached, forget };
  }

  async #pause(guest: GuestControl): Promise<void> {
    if (!guest.isPaused) {
      this.#options.journal.tell({ type: 'downtime' });
      this.#options.unlimit();
    }
    await guest.pause();
  }

  async #collectAndDecide(): Promise<Decision> {
    const { guest, live, signal } = this.#options;
    throwIfAborted(signal, 'ram');
    const began = performance.now();
    await guest.collect(this.#bitmaps);
    const now = performance.now();
    const [collectMs, sinceSyncMs] = [now - began, now - this.#syncedAt];
    this.#syncedAt = now;
    const limits = { ...live.parameters(), switchoverMs: guest.switchoverMs };
    const pendingBytes = this.#pendingBytes();
    const facts = {
      pendingBytes,
      // A pass leaves nothing behind.
      dirtiedBytes: pendingBytes,
      movedBytes: Number(this.#lastMoved),
      sinceSyncMs,
      collectMs,
      controlMs: this.#controlMs,
      overheadMs: this.#overheadMs,
      bandwidth: bandwidthOf(this.#link),
    };
    const decision = decide(limits, facts, this.#throttle);
    this.#tellHopeless(decision, limits, facts);
    this.#decision = decision;
    this.#tellSynced(decision, limits, facts);
    this.#checkTimeLimit();
    return decision;
  }

  /** Once for a limit, and not for one slow round: without a time limit nothing else would ever be heard of it. */
  #tellHopeless(decision: Decision, limits: ConvergenceLimits, facts: RoundFacts): void {
    const { downtimeLimitMs } = limits;
    const again = this.#decision?.verdict === 'fixed-costs';
    if (decision.verdict !== 'fixed-costs' || !again || this.#hopelessMs === downtimeLimitMs) return;
    this.#hopelessMs = downtimeLimitMs;
    const message = fixedCostsNotice(decision, limits, facts.collectMs);
    this.#options.journal.notice('DOWNTIME_UNREACHABLE', message, { downtimeLimitMs });
  }

  /** Between passes nobody watches the clock. */
  #checkTimeLimit(): void {
    const { parameters, stopNow } = this.#options.live;
    const { timeLimitMs, onTimeLimit } = parameters();
    if (stopNow.aborted) return;
    if (timeLimitMs === 0 || onTimeLimit !== 'cancel' || this.#decision?.verdict === 'converged') return;
    if (performance.now() - this.#started >= timeLimitMs) throw this.#notConverged();
  }

  async #applyThrottle({ throttle, verdict }: Decision): Promise<void> {
    const { guest, journal } = this.#options;
    const before = this.#throttle.percentage;
    this.#throttle = throttle;
    if (throttle.percentage === before) return;
    if (await guest.throttle(throttle.percentage)) {
      const { percentage } = throttle;
      journal.tell({ type: 'throttle', percentage });
      const message = `the guest writes too fast (${verdict}): it is denied ${percentage} % of its CPU time`;
      journal.notice('THROTTLED', message, { percentage });
    } else if (before === 0) {
      journal.notice('NO_THROTTLE', 'auto-converge: this VMM offers no way to throttle its guest');
    }
  }

  /** A round that costs more than it moves is not hurried. */
  async #breathe(): Promise<void> {
    if (this.#decision?.verdict !== 'fixed-costs' || this.#lastMs >= IDLE_ROUND_MS) return;
    await new Promise((resolve) => setTimeout(resolve, IDLE_ROUND_MS - this.#lastMs));
  }

  async #stopGuest(): Promise<void> {
    const { guest, journal } = this.#options;
    // Paused already: by the time limit or an operator, while a pass was under way.
    const during = guest.isPaused;
    await this.#pause(guest);
    journal.tell({ type: 'downtime', ended: during ? 'ram' : 'pause' });
  }

  async #lastPass(): Promise<void> {
    const { guest, journal, tracked, settling } = this.#options;
    await guest.collect(this.#bitmaps);
    for (const { bitmap } of settling) bitmap.setRange(0, bitmap.pages);
    journal.tell({ type: 'downtime', ended: 'collect' });
    this.#tellBegins(bytesIn([...tracked, ...settling]));
    const began = performance.now();
    this.#account(await this.#options.pass('end'), performance.now() - began);
    this.#tellEnds();
    journal.tell({ type: 'downtime', ended: 'ram' });
  }

  #tellBegins(pending: number): void {
    this.#rounds += 1;
    const { journal } = this.#options;
    journal.tell({ type: 'round', state: 'begins', round: this.#rounds, pending, live: true });
  }

  #tellEnds(): void {
    this.#options.journal.tell({ type: 'round', state: 'ends', round: this.#rounds });
  }

  #tellSynced(decision: Decision, limits: ConvergenceLimits, facts: RoundFacts): void {
    this.#options.journal.tell({
      type: 'round',
      state: 'synced',
      pending: facts.pendingBytes,
      'dirty-bytes-rate': decision.dirtyRate,
      'collect-time': facts.collectMs,
      'expected-downtime': decision.expectedDowntimeMs,
      'downtime-limit': limits.downtimeLimitMs,
      'switchover-bandwidth': decision.bandwidth,
      verdict: decision.verdict,
    });
  }

  #account(passed: RamRound, ms: number): void {
    const { pages, bytes, zeroBytes } = this.moved;
    this.moved = {
      pages: pages + passed.pages,
      bytes: bytes + passed.bytes,
      zeroBytes: zeroBytes + passed.zeroBytes,
    };
    this.#lastMs = ms;
    this.#controlMs = passed.controlMs;
    this.#overheadMs = passed.overheadMs;
    this.#lastMoved = passed.bytes + passed.zeroBytes;
    this.#link = seeLink(this.#link, Number(passed.bytes), passed.wireMs);
  }

  get #bitmaps(): readonly NativeBitmap[] {
    return this.#options.tracked.map(({ bitmap }) => bitmap);
  }

  #pendingBytes(): number {
    return bytesIn(this.#options.tracked);
  }

  #notConverged(): MigrationError {
    const sentRate = this.#lastMs > 0 ? (Number(this.#lastMoved) * 1000) / this.#lastMs : 0;
    return notConverged(this.#options.live.parameters(), this.#decision, sentRate);
  }
}

const bytesIn = (blocks: readonly SourceBlock[]): number =>
  blocks.reduce((sum, { bitmap, block }) => sum + bitmap.count() * block.mapping.pageSize, 0);
