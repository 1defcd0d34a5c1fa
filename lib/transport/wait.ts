import { raceAbort } from '../abort.ts';
import { MigrationError, type Phase } from '../errors.ts';
import { remedyOf, type WaitingFor } from '../waiting.ts';

/** The native side has deadlines of its own; this much later JavaScript stops to wait for them. */
export const GRACE_MS = 2_000;

export interface WaitLimits {
  readonly phase: Phase;
  readonly timeoutMs: number;
  readonly signal?: AbortSignal | undefined;
  /** What is waited for, for the message: "the destination's READY". */
  readonly what: string;
  /** Where to look when it did not come. Default: the peer. */
  readonly waitingFor?: WaitingFor;
}

/**
 * The promise, within a deadline and cancellable. The promise itself is not stopped: whoever made it ends it by closing what
 * it waits on.
 * @throws MigrationError TIMEOUT after `timeoutMs`; the signal's reason (CANCELLED) when it aborts
 */
export async function within<T>(promise: Promise<T>, limits: WaitLimits): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(timeoutError(limits)), limits.timeoutMs);
  });
  try {
    return await unlessAborted(Promise.race([promise, late]), limits.signal, limits.phase);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * The promise, or the error of the signal as soon as it aborts: for what has a deadline of its own. The promise itself is not stopped.
 * @throws as {@link throwIfAborted}
 */
export function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  phase: Phase,
): Promise<T> {
  return raceAbort(promise, signal, () => cancelledError(signal, phase));
}

/** What {@link within} throws when the time is over. */
export function timeoutError({ phase, timeoutMs, what, waitingFor = 'peer' }: WaitLimits): MigrationError {
  return new MigrationError(
    'TIMEOUT',
    phase,
    `timed out after ${timeoutMs / 1000} s waiting for ${what}. ${remedyOf(waitingFor)}`,
    { details: { timeoutMs, waitingFor } },
  );
}

/** @throws MigrationError CANCELLED (or the MigrationError that the signal was aborted with) */
export function throwIfAborted(signal: AbortSignal | undefined, phase: Phase): void {
  if (signal?.aborted) throw cancelledError(signal, phase);
}

/** The error of an aborted signal: its reason if that is a MigrationError, else CANCELLED. */
export function cancelledError(signal: AbortSignal | undefined, phase: Phase): MigrationError {
  if (signal?.reason instanceof MigrationError) return signal.reason;
  return new MigrationError('CANCELLED', phase, 'the migration was cancelled', { cause: signal?.reason });
}
