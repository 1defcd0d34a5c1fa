import { MigrationError, type Phase } from '../../errors.ts';
import type { NativeBitmap } from '../../native/memory.ts';
import type { Guest } from '../../ram/vm.ts';
import { throwIfAborted, within } from '../../transport/wait.ts';
import { call } from '../embedder.ts';
import { isSwitchover } from '../options.ts';

/**
 * The guest of a live migration: pauses and slows it down, and gives it back as it was when the migration fails. Calls into the VMM
 * have a deadline; what they throw becomes GUEST_ERROR.
 */
export class GuestControl {
  readonly #guest: Guest;
  readonly #timeoutMs: number;
  readonly #signal: AbortSignal | undefined;
  #tracking = false;
  #paused: Promise<void> | undefined;
  #throttle = 0;
  /** The VMM's own promises: they may go on when nobody waits for them any more. */
  #pausing: Promise<void> | undefined;
  #throttling: Promise<void> | undefined;

  constructor(guest: Guest, limits: { timeoutMs: number; signal?: AbortSignal | undefined }) {
    this.#guest = guest;
    this.#timeoutMs = limits.timeoutMs;
    this.#signal = limits.signal;
  }

  /** What the VMM says of the downtime beside RAM, milliseconds; it may change. @throws MigrationError GUEST_ERROR: it says nonsense */
  get switchoverMs(): number {
    const what = 'say its switchoverMs';
    let said: unknown;
    try {
      said = this.#guest.switchoverMs ?? 0;
    } catch (error) {
      throw guestError('ram', what, error);
    }
    if (isSwitchover(said)) return said;
    throw guestError('ram', what, `expected milliseconds, 0 or more, but received ${String(said)}`);
  }

  get isPaused(): boolean {
    return this.#paused !== undefined;
  }

  async track(): Promise<void> {
    this.#tracking = true;
    await this.#call('ram', 'start the dirty tracker', () => this.#guest.tracker.start());
  }

  /** The pages written since the last call; their bits are set. */
  collect(bitmaps: readonly NativeBitmap[]): Promise<bigint> {
    return this.#call('ram', 'collect dirty pages', () => this.#guest.tracker.collect(bitmaps));
  }

  /** Once; who asks again gets the same promise. */
  pause(): Promise<void> {
    this.#paused ??= this.#call('ram', 'pause the guest', () => {
      this.#pausing = call(() => this.#guest.pause());
      return this.#pausing;
    });
    return this.#paused;
  }

  /** Percent of its CPU time that the guest is denied. False: the VMM offers no way. */
  async throttle(percentage: number): Promise<boolean> {
    const { throttle } = this.#guest;
    if (throttle === undefined) return false;
    if (percentage === this.#throttle) return true;
    this.#throttle = percentage;
    await this.#call('ram', 'throttle the guest', () => {
      this.#throttling = call(() => throttle.call(this.#guest, percentage));
      return this.#throttling;
    });
    return true;
  }

  /** The guest lives at the destination, or may: it stays paused here, but is not slowed down or watched any more. Never throws. */
  async leave(): Promise<void> {
    await this.#unthrottle('commit');
    await this.#stopTracking();
  }

  /**
   * The migration has failed: full speed again, runs again, is not watched any more. Not ended by the migration's signal.
   * @returns undefined, or why the guest could not be given back
   */
  async giveBack(phase: Phase): Promise<unknown> {
    const slow = await this.#unthrottle(phase);
    const still = await this.#resume(phase);
    await this.#stopTracking();
    return still ?? slow;
  }

  async #unthrottle(phase: Phase): Promise<unknown> {
    const { throttle } = this.#guest;
    if (this.#throttling === undefined || throttle === undefined) return undefined;
    const late = await this.#outlast(phase, 'throttle the guest', this.#throttling);
    const what = 'end the throttling of the guest';
    return (await this.#attempt(phase, what, () => throttle.call(this.#guest, 0))) ?? late;
  }

  async #resume(phase: Phase): Promise<unknown> {
    if (this.#pausing === undefined) return undefined;
    const late = await this.#outlast(phase, 'pause the guest', this.#pausing);
    return (await this.#attempt(phase, 'resume the guest', () => this.#guest.resume())) ?? late;
  }

  /**
   * Waits for a call that may be under way still, however it ends: it would take hold after the one that undoes it. Nothing is undone
   * again when it ends later: the guest may belong to another migration by then.
   */
  async #outlast(phase: Phase, what: string, begun: Promise<void>): Promise<unknown> {
    const ended = begun.catch(() => {});
    const late = await this.#attempt(phase, what, () => ended);
    if (late === undefined) return undefined;
    const message = `the VMM was told to ${what}, has not answered for ${this.#timeoutMs / 1000} s and more, and may do so still`;
    return new MigrationError('GUEST_ERROR', phase, message, { cause: late });
  }

  /** Bounded, whatever the migration's signal says. @returns undefined, or what went wrong */
  #attempt(phase: Phase, what: string, work: () => Promise<void>): Promise<unknown> {
    return this.#bounded(phase, what, work, undefined).then(
      () => undefined,
      (error: unknown) => error,
    );
  }

  async #stopTracking(): Promise<void> {
    if (!this.#tracking) return;
    await this.#attempt('ram', 'stop the dirty tracker', () => this.#guest.tracker.stop());
  }

  #call<T>(phase: Phase, what: string, work: () => Promise<T>): Promise<T> {
    return this.#bounded(phase, what, work, this.#signal);
  }

  async #bounded<T>(
    phase: Phase,
    what: string,
    work: () => Promise<T>,
    signal: AbortSignal | undefined,
  ): Promise<T> {
    throwIfAborted(signal, phase);
    const called = call(work).catch((error: unknown) => {
      throw guestError(phase, what, error);
    });
    return within(called, {
      phase,
      timeoutMs: this.#timeoutMs,
      signal,
      what: `the VMM to ${what}`,
      waitingFor: 'vmm',
    });
  }
}

/** What a call into the VMM threw, as GUEST_ERROR unless it is a MigrationError already. */
export function guestError(phase: Phase, what: string, cause: unknown): MigrationError {
  if (cause instanceof MigrationError) return cause;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MigrationError('GUEST_ERROR', phase, `the VMM could not ${what}: ${why}`, { cause });
}
