/**
 * What a careful operator does over QMP to move a VM through a file. Tried with QEMU 7.2; test/qemu/facts.test.ts checks these facts.
 *
 * Source: `stop`, `migrate-set-capabilities` (always all that matter, on and off: they outlive a migration), `migrate`, then
 * `query-migrate` until `completed` or `failed`. Failed: the run state is still `paused`, `cont` lets the guest go on. Completed: the run state is
 * `postmigrate`; QEMU then refuses another `migrate` until `cont`, and `cont` stays possible: the operator must
 * make sure that only one of the two goes on. QEMU closes the command's pipe and ignores its exit status: a command that fails on the last
 * bytes (disk full) is still `completed`, so check that the stream is whole.
 *
 * Destination: `-incoming defer`, because x-ignore-shared must be set before the stream arrives and has no command-line
 * option. `migrate-set-capabilities`, `migrate-incoming`, `query-migrate` until `completed`. The run state goes from `inmigrate` to the state that
 * the source had: `paused` for a source that was stopped, with or without -S; `running`, without asking, for a source that
 * was running, which -S turns into `paused`. A `cont` during `inmigrate` is remembered and undoes -S. A bad stream ends the process (exit status 1,
 * reason on stderr). Both ends must agree on x-ignore-shared, or the destination ends. A command that gives no byte at all leaves it in
 * `inmigrate` for ever with an empty answer to `query-migrate`: use a deadline.
 */
import { rm } from 'node:fs/promises';
import { MigrationError } from 'rdma-migrate';
import { z } from 'zod';
import { shellWord } from './arguments.ts';
import type { Qemu } from './qemu.ts';

export interface StreamFile {
  readonly file: string;
  /** Leave out RAM that is mapped shared (x-ignore-shared): it is moved as a file. */
  readonly ignoreShared: boolean;
  readonly timeoutMs?: number;
}

const migrateInfo = z.object({ status: z.string().optional(), 'error-desc': z.string().optional() });

/** `completed`, `failed` with the reason, or undefined while it is under way. */
async function outcome(vm: Qemu): Promise<z.infer<typeof migrateInfo> | undefined> {
  const info = migrateInfo.parse(await vm.execute('query-migrate'));
  return ['completed', 'failed', 'cancelled'].includes(info.status ?? '') ? info : undefined;
}

async function setIgnoreShared(vm: Qemu, state: boolean): Promise<void> {
  await vm.execute('migrate-set-capabilities', {
    capabilities: [{ capability: 'x-ignore-shared', state }],
  });
}

async function waitForOutcome(vm: Qemu, what: string, timeoutMs: number | undefined): Promise<void> {
  const { status, 'error-desc': reason } = await vm.waitUntil(what, () => outcome(vm), timeoutMs);
  if (status === 'completed') return;
  const message = `${vm.name}: ${what} ${status}: ${reason ?? 'QEMU gave no reason'}`;
  throw new MigrationError('PEER_ERROR', 'device-state', message);
}

/**
 * Stops a VM and writes its migration stream to a file. When it fails the file is removed and the guest runs again.
 *
 * @throws MigrationError `PEER_ERROR`, `TIMEOUT`, `IO_ERROR` when QEMU ends.
 */
export async function saveStream(vm: Qemu, { file, ignoreShared, timeoutMs }: StreamFile): Promise<void> {
  await vm.execute('stop');
  try {
    await setIgnoreShared(vm, ignoreShared);
    await vm.execute('migrate', { uri: `exec:cat>${shellWord(file)}` });
    await waitForOutcome(vm, 'migrate', timeoutMs);
  } catch (reason) {
    await vm.execute('migrate_cancel').catch(() => undefined);
    await vm.execute('cont').catch(() => undefined);
    await rm(file, { force: true });
    throw reason;
  }
}

/**
 * Loads a migration stream into a VM that was started with `-incoming defer`. The guest does not run yet: `cont` does that.
 *
 * @throws MigrationError `PEER_ERROR`, `TIMEOUT`, `IO_ERROR` with QEMU's reason when it ends because the stream does not match.
 */
export async function loadStream(vm: Qemu, { file, ignoreShared, timeoutMs }: StreamFile): Promise<void> {
  await setIgnoreShared(vm, ignoreShared);
  await vm.execute('migrate-incoming', { uri: `exec:cat ${shellWord(file)}` });
  await waitForOutcome(vm, 'incoming migration', timeoutMs);
}
