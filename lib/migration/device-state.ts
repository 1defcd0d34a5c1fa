/** The source's device state, as its VMM gives it: piece by piece, within a deadline, and no longer than the migration lives. */
import { MigrationError } from '../errors.ts';
import type { SourceVm } from '../ram/vm.ts';
import type { TurnLimits } from '../transport/turns.ts';
import { within } from '../transport/wait.ts';

/**
 * @throws MigrationError TIMEOUT when a piece takes longer than the limit; CANCELLED, or why the connection ended; GUEST_ERROR with what the
 *   VMM of a running guest threw
 */
export async function* deviceStateOf(vm: SourceVm, limits: TurnLimits): AsyncGenerator<Uint8Array> {
  const pieces = vm.after()[Symbol.asyncIterator]();
  try {
    for (;;) {
      const next = pieces.next().catch((error: unknown) => {
        throw vm.guest ? guestError(error) : error;
      });
      const what = 'the VMM to save its device state';
      const { done, value } = await within(next, { ...limits, phase: 'device-state', what });
      if (done) return;
      yield value;
    }
  } finally {
    // Nobody waits for one that hangs.
    pieces.return?.().catch(() => {});
  }
}

function guestError(cause: unknown): unknown {
  if (cause instanceof MigrationError) return cause;
  const why = cause instanceof Error ? cause.message : String(cause);
  return new MigrationError(
    'GUEST_ERROR',
    'device-state',
    `the VMM could not save its device state: ${why}`,
    {
      cause,
    },
  );
}
