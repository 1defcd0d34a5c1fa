/** The source's device state, as its VMM gives it: piece by piece, within a deadline, and no longer than the migration lives. */
import { invalid } from '../options/check.ts';
import { DeviceStateCheck } from '../protocol/tail.ts';
import type { SourceVm } from '../ram/vm.ts';
import type { TurnLimits } from '../transport/turns.ts';
import { within } from '../transport/wait.ts';
import { call } from './embedder.ts';
import { guestError } from './live/guest-control.ts';

const OF_A_GUEST = {
  phase: 'device-state',
  what: 'the VMM to save its device state',
  waitingFor: 'vmm',
} as const;
const AT_REST = { phase: 'device-state', what: 'device state of vm.after()', waitingFor: 'disk' } as const;

/**
 * @throws MigrationError TIMEOUT when a piece takes longer than the limit; CANCELLED, or why the connection ended; GUEST_ERROR with what the
 *   VMM of a running guest threw
 */
export async function* deviceStateOf(vm: SourceVm, limits: TurnLimits): AsyncGenerator<Uint8Array> {
  const asked = <T>(work: () => T | PromiseLike<T>): Promise<T> =>
    call(work).catch((error: unknown) => {
      throw vm.guest ? guestError('device-state', 'save its device state', error) : error;
    });
  const subject = vm.guest ? OF_A_GUEST : AT_REST;
  const pieces = await asked(() => vm.after()[Symbol.asyncIterator]());
  try {
    for (;;) {
      const next = asked(() => pieces.next());
      const { done, value } = await within(next, { ...limits, ...subject });
      if (done) return;
      yield bytesOf(value);
    }
  } finally {
    // Nobody waits for one that hangs.
    call(() => pieces.return?.()).catch(() => {});
  }
}

function bytesOf(piece: unknown): Uint8Array {
  if (piece instanceof Uint8Array) return piece;
  throw invalid(`expected Uint8Arrays of vm.after() but received a piece of type ${typeof piece}`);
}

/**
 * A destination of ours takes device state only with QEMU's description at its end, and would say so no sooner than at the commit: it is read
 * once ahead.
 * @throws MigrationError INVALID_ARGUMENT, and as {@link deviceStateOf}
 */
export async function checkDeviceState(vm: SourceVm, limits: TurnLimits): Promise<void> {
  const check = new DeviceStateCheck();
  for await (const piece of deviceStateOf(vm, limits)) check.push(piece);
  const { complete, reason } = check.result();
  if (complete) return;
  throw invalid(
    `the VM's device state (vm.after()) is not whole: ${reason}. An rdma-migrate destination takes no device state that nothing proves to be whole`,
  );
}
