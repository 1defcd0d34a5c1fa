/**
 * Whether another round of pre-copy is worth its time: a pure function of what the last round showed. QEMU's rule and names: the VM
 * stops as soon as what is left can be sent within `downtime-limit` at the bandwidth seen; a guest that dirties more than
 * `throttle-trigger-threshold` percent of what a round sends, twice in a row, is slowed down (auto-converge).
 */

/** What may be changed while a migration runs. Times in milliseconds, bandwidth in bytes per second. */
export interface ConvergenceLimits {
  /** QEMU's `downtime-limit`: how long the guest may stand still. */
  readonly downtimeLimitMs: number;
  /** Of it, what the VMM takes: {@link Guest.switchoverMs}. */
  readonly switchoverMs: number;
  /**
   * QEMU's `avail-switchover-bandwidth`: bytes per second to reckon with once the guest stands; 0: what passes have shown of the link.
   */
  readonly availSwitchoverBandwidth: number;
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
  /** Written by the guest since its writes were last collected. */
  readonly dirtiedBytes: number;
  /** Moved by the last round, zero ranges included. */
  readonly movedBytes: number;
  /** The time since then, whatever it was spent on: the guest writes through pauses between rounds too. */
  readonly sinceSyncMs: number;
  /** How long collecting took: once more of it belongs to the downtime. */
  readonly collectMs: number;
  /** How long the control messages of a round take, beside its data. The last pass with device state and commit has twice as many. */
  readonly controlMs: number;
  /** How long the wire waited in the last round for what belongs to its pages, such as scanning: {@link PassCosts}. */
  readonly overheadMs: number;
  /** Bytes per second that the link takes, whatever max-bandwidth allows; 0: nothing has been sent yet. */
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
 * `converged`: stop the VM now. `converging`: the next round will have less to send. `dirty-rate`: the guest has written as much as the last
 * round has moved, or more. `fixed-costs`: switch-over, collecting and messages alone take as long as the limit allows, whatever the guest does.
 */
export type Verdict = 'converged' | 'converging' | 'dirty-rate' | 'fixed-costs';

export interface Decision {
  readonly verdict: Verdict;
  /** Milliseconds of downtime if the VM stopped now; what counts as such: {@link DowntimePart}. */
  readonly expectedDowntimeMs: number;
  /** Of those, what does not hang on how much the guest has written. */
  readonly fixedMs: number;
  /** Bytes per second that it reckons with. */
  readonly bandwidth: number;
  /** Bytes per second that the guest wrote since its writes were last collected. */
  readonly dirtyRate: number;
  readonly throttle: ThrottleState;
}

export const NO_THROTTLE: ThrottleState = { percentage: 0, highRounds: 0 };
const HIGH_ROUNDS = 2;
/** Control messages of the last pass, the device state and the commit, in those of a round. */
const HANDOVER_ROUNDS = 2;

export function decide(limits: ConvergenceLimits, facts: RoundFacts, throttle: ThrottleState): Decision {
  const fixedMs = limits.switchoverMs + facts.collectMs + HANDOVER_ROUNDS * facts.controlMs;
  const bandwidth = limits.availSwitchoverBandwidth > 0 ? limits.availSwitchoverBandwidth : facts.bandwidth;
  const expectedDowntimeMs = fixedMs + overheadMs(facts) + sendingMs(facts.pendingBytes, bandwidth);
  const dirtyRate = facts.sinceSyncMs > 0 ? (facts.dirtiedBytes * 1000) / facts.sinceSyncMs : 0;
  const decision = { expectedDowntimeMs, fixedMs, bandwidth, dirtyRate };
  if (expectedDowntimeMs <= limits.downtimeLimitMs) return { ...decision, verdict: 'converged', throttle };
  if (fixedMs >= limits.downtimeLimitMs) return { ...decision, verdict: 'fixed-costs', throttle };
  const verdict = facts.dirtiedBytes >= facts.movedBytes ? 'dirty-rate' : 'converging';
  return { ...decision, verdict, throttle: nextThrottle(limits, facts, throttle) };
}

/** Scanning and registering are done for so much less as less is to be sent. */
function overheadMs({ overheadMs: ms, pendingBytes, movedBytes }: RoundFacts): number {
  return movedBytes > 0 ? ms * Math.min(1, pendingBytes / movedBytes) : 0;
}

function sendingMs(pendingBytes: number, bandwidth: number): number {
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

/** What passes have shown of the link: the later ones, so far as they moved enough to tell. */
export interface LinkSeen {
  readonly bytes: number;
  /** Milliseconds on the wire. */
  readonly ms: number;
}

export const NOTHING_SEEN: LinkSeen = { bytes: 0, ms: 0 };
/** After so much has been sent, what was seen before counts half: one pass of a few pages tells next to nothing, many of them do. */
const HALF_BYTES = 16 << 20;

/** A pass has sent so many bytes in so much time on the wire. */
export function seeLink(before: LinkSeen, bytes: number, ms: number): LinkSeen {
  if (bytes <= 0 || ms <= 0) return before;
  const keep = 0.5 ** (bytes / HALF_BYTES);
  return { bytes: before.bytes * keep + bytes, ms: before.ms * keep + ms };
}

/** Bytes per second; 0: nothing has been sent yet. */
export function bandwidthOf({ bytes, ms }: LinkSeen): number {
  return ms > 0 ? (bytes * 1000) / ms : 0;
}
