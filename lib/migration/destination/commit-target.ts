import { MigrationError } from '../../errors.ts';
import type { Arrival, DestinationTarget } from '../../ram/vm.ts';
import { within } from '../../transport/wait.ts';
import { call } from '../embedder.ts';

/** What a target that was told to abort its commit gets at most to say how that ended. */
const GRACE_MS = 10_000;

/**
 * Makes the VM durable at the destination. A cancel, or the time limit, asks the target to abort; the commit's own outcome counts all the
 * same, because it may be past the point of no return.
 * @throws MigrationError why the commit failed, or was given up: nothing is kept. COMMIT_UNKNOWN when it does not end: the VM may come to
 *   exist here at any time, so the source must not be told that this failed
 */
export async function commitTarget(
  target: DestinationTarget,
  arrival: Arrival,
  timeoutMs: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const outcome = call(() => target.commit(arrival)).then(
    () => undefined,
    (error: unknown) => ({ error }),
  );
  const limits = {
    phase: 'commit',
    what: 'the target to make the VM durable',
    waitingFor: 'target',
  } as const;
  const failure = await within(outcome, { ...limits, timeoutMs, signal }).catch(async (reason: unknown) => {
    call(() => target.abort()).catch(() => {}); // whoever owns the target waits for that
    const late = within(outcome, { ...limits, timeoutMs: Math.min(GRACE_MS, timeoutMs) });
    const ended = await late.catch(() => Promise.reject(unknownOutcome(reason)));
    return ended && { error: isUnknown(ended.error) ? ended.error : reason };
  });
  if (failure) throw failure.error;
}

const isUnknown = (error: unknown): boolean =>
  error instanceof MigrationError && error.code === 'COMMIT_UNKNOWN';

function unknownOutcome(cause: unknown): MigrationError {
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MigrationError(
    'COMMIT_UNKNOWN',
    'commit',
    `the VM was being made durable here when that was given up (${why}), and it is not known how it ends. Look at this side BEFORE the VM goes ` +
      'on at the source: if it is complete here, it lives here',
    { cause },
  );
}
