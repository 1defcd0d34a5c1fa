import { MigrationDestination } from '../migration/destination/destination.ts';
import { MEGABIT_BYTES } from '../migration/progress.ts';
import { MigrationSource } from '../migration/source/source.ts';
import { native } from '../native/index.ts';
import { type Check, named } from './check.ts';
import { MemoryTarget, makeSyntheticVm } from './synthetic-vm.ts';

const RAM_BYTES = 64n << 20n;
/** On an idle machine it takes some tenths of a second. */
const DEADLINE_MS = 20_000;

/** Migrates a VM of 64 MiB through 127.0.0.1 within this process, over the software RNIC. Never throws. */
export async function selfTest(signal?: AbortSignal): Promise<Check> {
  const check = named('self-test', 'migration over iWARP', { essential: true });
  const deadline = AbortSignal.timeout(DEADLINE_MS);
  try {
    const { bytesPerSecond, milliseconds, same } = await migrate(
      signal ? AbortSignal.any([signal, deadline]) : deadline,
    );
    const details = { bytes: RAM_BYTES, milliseconds, 'bytes-per-second': Math.round(bytesPerSecond) };
    const found = `64 MiB through 127.0.0.1 in ${milliseconds} ms (${(bytesPerSecond / 2 ** 20).toFixed(0)} MiB/s)`;
    if (same) return check.ok(`${found}, identical`, { details });
    return check.missing(
      `${found}, but what arrived is not what was sent`,
      'test the memory of this machine (memtester)',
      { details },
    );
  } catch (error) {
    const late = deadline.aborted ? ` (it had ${DEADLINE_MS / 1000} s)` : '';
    const reason = error instanceof Error ? error.message : String(error);
    return check.missing(
      `failed${late}: ${reason}`,
      'ip link set lo up; see the checks of memory above, and run it again with the machine idle',
    );
  }
}

async function migrate(
  signal: AbortSignal,
): Promise<{ bytesPerSecond: number; milliseconds: number; same: boolean }> {
  const vm = await makeSyntheticVm(native, RAM_BYTES);
  try {
    await using target = new MemoryTarget(native);
    const options = { provider: 'iwarp', responseTimeoutMs: DEADLINE_MS } as const;
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, options);
    const source = new MigrationSource(vm, destination.uri, options);
    const sent = await together(signal, [
      (both) => source.migrate({ signal: both }),
      (both) => destination.receive({ signal: both }),
    ]);
    return {
      bytesPerSecond: sent.ram.mbps * MEGABIT_BYTES,
      milliseconds: sent['total-time'],
      same: await target.equals(vm),
    };
  } finally {
    await Promise.all(vm.blocks.map(({ mapping }) => mapping.close()));
  }
}

/** Runs both ends until both have ended: a failure of one ends the other. Returns the first end's result, or the first failure. */
async function together<T>(
  signal: AbortSignal,
  ends: readonly [(signal: AbortSignal) => Promise<T>, (signal: AbortSignal) => Promise<unknown>],
): Promise<T> {
  const failure = new AbortController();
  const both = AbortSignal.any([signal, failure.signal]);
  const stop = (error: unknown): never => {
    failure.abort(error);
    throw failure.signal.reason;
  };
  const [first, second] = await Promise.allSettled([ends[0](both).catch(stop), ends[1](both).catch(stop)]);
  if (first.status === 'rejected') throw first.reason;
  if (second.status === 'rejected') throw second.reason;
  return first.value;
}
