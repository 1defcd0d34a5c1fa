/** One live migration of a {@link LiveGuest} between two ends of this process. */
import { expect } from 'vitest';
import {
  type LiveOptions,
  MigrationDestination,
  MigrationError,
  type MigrationResult,
  MigrationSource,
  type SourceOptions,
} from '../../lib/index.ts';
import { type LiveGuest, MemoryTarget } from './live-guest.ts';

const OPTIONS: SourceOptions = { provider: 'iwarp', responseTimeoutMs: 5_000 };

/** A slow bandwidth for any link: a guest of 16 MiB that writes fast cannot be stopped in time. */
export const SLOW_BANDWIDTH = 64n << 20n;
export const SLOW_LINK: LiveOptions = {
  autoConverge: true,
  downtimeLimitMs: 150,
  availSwitchoverBandwidth: SLOW_BANDWIDTH,
};

export interface Attempt {
  readonly vm: LiveGuest;
  readonly target: MemoryTarget;
  readonly source: MigrationSource;
  readonly destination: MigrationDestination;
  readonly sent: Promise<MigrationResult>;
  readonly received: Promise<MigrationResult>;
}

/** Starts both ends; both have ended, either way, when `work` has ended. */
export async function attempt(
  vm: LiveGuest,
  options: SourceOptions & { signal?: AbortSignal; onCommit?: () => Promise<void> },
  work: (attempt: Attempt) => Promise<void>,
): Promise<void> {
  const { signal, onCommit, ...rest } = options;
  await using target = new MemoryTarget(onCommit);
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    provider: 'iwarp',
  });
  const source = new MigrationSource(vm, destination.uri, { ...OPTIONS, ...rest });
  const received = destination.receive();
  const sent = source.migrate(signal ? { signal } : {});
  received.catch(() => {});
  sent.catch(() => {});
  try {
    await work({ vm, target, source, destination, sent, received });
  } finally {
    await destination.close();
    await Promise.allSettled([sent, received]);
  }
}

export function deferred(): { promise: Promise<void>; resolve: () => void } {
  let resolve = (): void => {};
  const promise = new Promise<void>((done) => {
    resolve = done;
  });
  return { promise, resolve };
}

export async function failure(promise: Promise<unknown>): Promise<MigrationError> {
  const error = await promise.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof MigrationError)) throw new Error(`not a MigrationError: ${String(error)}`);
  return error;
}

/** The guest runs on: it writes. */
export async function expectRunsOn(vm: LiveGuest): Promise<void> {
  expect(vm.isRunning).toBe(true);
  const before = vm.writes;
  await expect.poll(() => vm.writes, { timeout: 10_000 }).toBeGreaterThan(before);
  expect(vm.tracker.stopped).toBe(vm.tracker.started);
}
