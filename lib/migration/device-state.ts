/** The source's device state, as its VMM gives it: piece by piece, within a deadline, and no longer than the migration lives. */
import type { SourceVm } from '../ram/vm.ts';
import type { TurnLimits } from '../transport/turns.ts';
import { within } from '../transport/wait.ts';
import { call } from './embedder.ts';
import { guestError } from './guest-control.ts';

/**
 * @throws MigrationError TIMEOUT when a piece takes longer than the limit; CANCELLED, or why the connection ended; GUEST_ERROR with what the
 *   VMM of a running guest threw
 */
export async function* deviceStateOf(vm: SourceVm, limits: TurnLimits): AsyncGenerator<Uint8Array> {
  const asked = <T>(work: () => T | PromiseLike<T>): Promise<T> =>
    call(work).catch((error: unknown) => {
      throw vm.guest ? guestError('device-state', 'save its device state', error) : error;
    });
  const pieces = await asked(() => vm.after()[Symbol.asyncIterator]());
  try {
    for (;;) {
      const next = asked(() => pieces.next());
      const what = 'the VMM to save its device state';
      const { done, value } = await within(next, { ...limits, phase: 'device-state', what });
      if (done) return;
      yield value;
    }
  } finally {
    // Nobody waits for one that hangs.
    call(() => pieces.return?.()).catch(() => {});
  }
}
