/**
 * Whether another round of pre-copy is worth its time: a pure function of what the last round showed. QEMU's rule and names: the VM
 * stops as soon as what is left can be sent within `downtime-limit` at the bandwidth seen; a guest that dirties more than
 * `throttle-trigger-threshold` percent of what a round sends, twice in a row, is slowed down (auto-converge).
 */

/** What may be changed while a migration runs. Times in milliseconds, bandwidth in bytes per second. */
export interface ConvergenceLimits {
  /** QEMU's `downtime-limit`: how long the guest may stand still. */
  readonly downtimeLimitMs: number;
  /** Of it, what pausing, saving the device state and the destination's commit take. */
  readonly switchoverMs: number;
  /** QEMU's `auto-converge` and its parameters, in percent. */
  readonly autoConverge: boolean;
  readonly cpuThrottleInitial: number;
  readonly cpuThrottleIncrement: number;
  readonly maxCpuThrottle: number;
  readonly throttleTriggerThreshold: number;
}

/** What is known when the guest's writes have been collected after a round. */
export interface RoundFacts {
  /** To be sent now. */
  readonly pendingBytes: number;
  /** Written by the guest while the last round ran. */
  readonly dirtiedBytes: number;
  /** Moved by the last round, zero ranges included. */
  readonly movedBytes: number;
  readonly roundMs: number;
  /** How long collecting took: once more of it belongs to the downtime. */
  readonly collectMs: number;
  /** How long the control messages of a round take, beside its data. The last pass with device state and commit has twice as many. */
  readonly controlMs: number;
  /** Bytes per second that passes reach; 0: nothing has been sent yet. */
  readonly bandwidth: number;
}

/** What is carried from round to round. */
export interface ThrottleState {
  /** Percent of its CPU time that the guest is denied. */
  readonly percentage: number;
  /** Rounds in a row in which the guest dirtied too much. */
  readonly highRounds: number;
}

/**
 * `converged`: stop the VM now. `converging`: the next round will have less to send. `dirty-rate`: the guest writes as fast as the link
 * sends, or faster. `fixed-costs`: switch-over and collecting alone take as long as the limit allows, whatever the guest does.
 */
export type Verdict = 'converged' | 'converging' | 'dirty-rate' | 'fixed-costs';

export interface Decision {
  readonly verdict: Verdict;
  /** Milliseconds of downtime if the VM stopped now. */
  readonly expectedDowntimeMs: number;
  /** Bytes per second that the guest wrote during the last round. */
  readonly dirtyRate: number;
  readonly throttle: ThrottleState;
}

export const NO_THROTTLE: ThrottleState = { percentage: 0, highRounds: 0 };
const HIGH_ROUNDS = 2;
/** Control messages of the last pass, the device state and the commit, in those of a round. */
const HANDOVER_ROUNDS = 2;

export function decide(limits: ConvergenceLimits, facts: RoundFacts, throttle: ThrottleState): Decision {
  const fixedMs = limits.switchoverMs + facts.collectMs + HANDOVER_ROUNDS * facts.controlMs;
  const expectedDowntimeMs = fixedMs + sendingMs(facts);
  const dirtyRate = facts.roundMs > 0 ? (facts.dirtiedBytes * 1000) / facts.roundMs : 0;
  const decision = { expectedDowntimeMs, dirtyRate };
  if (expectedDowntimeMs <= limits.downtimeLimitMs) return { ...decision, verdict: 'converged', throttle };
  if (fixedMs >= limits.downtimeLimitMs) return { ...decision, verdict: 'fixed-costs', throttle };
  const verdict = dirtyRate >= facts.bandwidth ? 'dirty-rate' : 'converging';
  return { ...decision, verdict, throttle: nextThrottle(limits, facts, throttle) };
}

function sendingMs({ pendingBytes, bandwidth }: RoundFacts): number {
  if (pendingBytes === 0) return 0;
  return bandwidth > 0 ? (pendingBytes * 1000) / bandwidth : Number.POSITIVE_INFINITY;
}

function nextThrottle(limits: ConvergenceLimits, facts: RoundFacts, before: ThrottleState): ThrottleState {
  const high = facts.dirtiedBytes * 100 > facts.movedBytes * limits.throttleTriggerThreshold;
  const highRounds = high ? before.highRounds + 1 : before.highRounds;
  if (!limits.autoConverge || highRounds < HIGH_ROUNDS) return { ...before, highRounds };
  const wanted =
    before.percentage === 0 ? limits.cpuThrottleInitial : before.percentage + limits.cpuThrottleIncrement;
  return { percentage: Math.min(wanted, limits.maxCpuThrottle), highRounds: 0 };
}

/** A pass that moves less tells more of its round trips than of the link. */
const TELLING_BYTES = 4 << 20;

/** The bandwidth to reckon with after a pass: passes that moved little change it only where there is nothing better. */
export function estimateBandwidth(before: number, bytes: number, ms: number): number {
  if (bytes === 0 || ms <= 0) return before;
  const seen = (bytes * 1000) / ms;
  if (bytes < TELLING_BYTES) return before === 0 ? seen : Math.max(before, seen);
  return before === 0 ? seen : (before + seen) / 2;
}
