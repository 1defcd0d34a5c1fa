/** What the cases have in common: VMs that end with them, and checks. */
import { rm } from 'node:fs/promises';
import type { Qemu } from '../../../examples/qemu/qemu.ts';
import { GUEST_ADDRESS } from '../job.ts';
import type { Outcome } from './command.ts';
import { type StartOptions, setPinAll, startVm, type waitForOutcome, waitUntilDirtying } from './qemu.ts';

/** What a case works with. */
export interface Scene {
  readonly folder: string;
  /** A free TCP port of the VM that our end can reach, a different one at each call. */
  nextPort(): number;
}

/** Runs to its end and returns a line of figures; a failure is thrown. */
export type Case = (scene: Scene) => Promise<string>;

let count = 0;
/** A name that no other file of this run has. */
export const unique = (name: string) => `${name}-${++count}`;

/** A VM that is gone when the work is over. */
export async function withVm<T>(
  scene: Scene,
  options: StartOptions,
  work: (vm: Qemu) => Promise<T>,
): Promise<T> {
  await using vm = await startVm(scene.folder, { ...options, name: unique(options.name) });
  try {
    return await work(vm);
  } finally {
    await vm.close();
    await rm(vm.ramFile, { force: true });
  }
}

/** A VM whose guest runs and changes its memory. */
export const withSource = <T>(scene: Scene, work: (vm: Qemu) => Promise<T>) =>
  withVm(scene, { name: 'source' }, async (vm) => {
    await waitUntilDirtying(vm);
    return work(vm);
  });

/** Lets a QEMU wait for a migration; returns the URI. */
export async function listen(scene: Scene, vm: Qemu, pinAll: boolean): Promise<string> {
  const uri = `rdma:${GUEST_ADDRESS}:${scene.nextPort()}`;
  await setPinAll(vm, pinAll);
  await vm.execute('migrate-incoming', { uri });
  return uri;
}

export async function expectCompleted(migration: ReturnType<typeof waitForOutcome>): Promise<string> {
  const info = await migration;
  if (info.status !== 'completed')
    throw new Error(`QEMU: ${info.status}: ${info['error-desc'] ?? 'no reason'}`);
  return `${info['total-time']} ms by QEMU, ${info.ram?.['dirty-sync-count'] ?? '?'} rounds`;
}

export function expectOk(outcome: Outcome): void {
  if (outcome.exitCode !== 0)
    throw new Error(`rdma-migrate: ${JSON.stringify(outcome.last)} ${outcome.stderr}`);
}

/** A failure of ours has a code: one of these. */
export function expectTypedError({ exitCode, last, stderr }: Outcome, codes: readonly string[]): string {
  const code = last?.event === 'error' ? String(last.code) : '';
  if (exitCode === 0 || !codes.includes(code))
    throw new Error(
      `expected an error of ${codes.join(', ')}: exit code ${exitCode}, ${JSON.stringify(last)} ${stderr}`,
    );
  return code;
}
