/** Stock QEMUs with the guest of examples/guest, and what an operator does over QMP to migrate one over `rdma:`. */
import { existsSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { buildGuest } from '../../../examples/guest/build.ts';
import { PAGE_SIZE } from '../../../examples/guest/layout.ts';
import { readGuestState, verifyGuestRam } from '../../../examples/guest/verify.ts';
import { parsePasses, Qemu } from '../../../examples/qemu/qemu.ts';

export const MIB = 2 ** 20;
export const RAM_BYTES = 64 * MIB;
/** What the guest keeps rewriting; the rest of its RAM stays zero. */
const REGION_BYTES = 8 * MIB;
/** guest.S prints a line after at least this many pages. */
const PAGES_A_LINE = 16_384;
/** Too little for a guest that keeps dirtying all of its region; with a minute it converges at once. Zero would end the first round. */
const LITTLE_DOWNTIME_MS = 20;
const ANY_DOWNTIME_MS = 60_000;
const LIVE_ROUNDS = 3;
const MIGRATION_TIMEOUT_MS = 300_000;
/** Emulation in emulation, on a machine that may have other work. */
const START_TIMEOUT_MS = 60_000;
const FIRST_PASS_TIMEOUT_MS = 120_000;

const migrateInfo = z.object({
  status: z.string().optional(),
  'error-desc': z.string().optional(),
  'total-time': z.number().optional(),
  ram: z.object({ 'dirty-sync-count': z.number(), transferred: z.number() }).optional(),
});
export type MigrateInfo = z.infer<typeof migrateInfo>;

export interface StartOptions {
  readonly name: string;
  readonly ramBytes?: number;
  /** What the guest keeps rewriting, in bytes. */
  readonly regionBytes?: number;
  readonly incoming?: string;
  readonly paused?: boolean;
}

/** Starts a VM; its files are in `folder`, where the guest is built on first use. */
export async function startVm(
  folder: string,
  { name, ramBytes = RAM_BYTES, regionBytes = REGION_BYTES, ...rest }: StartOptions,
): Promise<Qemu> {
  const kernel = join(folder, `guest-${regionBytes}`);
  if (!existsSync(kernel)) await buildGuest({ output: kernel, regionBytes });
  const ramFile = join(folder, `${name}.ram`);
  return Qemu.start({ name, folder, kernel, ramFile, ramBytes, startTimeoutMs: START_TIMEOUT_MS, ...rest });
}

export async function queryMigrate(vm: Qemu): Promise<MigrateInfo> {
  return migrateInfo.parse(await vm.execute('query-migrate'));
}

/** Capabilities outlive a migration: always say on or off. */
export async function setPinAll(vm: Qemu, pinAll: boolean): Promise<void> {
  const capabilities = [{ capability: 'rdma-pin-all', state: pinAll }];
  await vm.execute('migrate-set-capabilities', { capabilities });
}

/** `completed`, `failed` or `cancelled`, with QEMU's figures. */
export function waitForOutcome(vm: Qemu): Promise<MigrateInfo> {
  const outcome = async () => {
    const info = await queryMigrate(vm);
    return ['completed', 'failed', 'cancelled'].includes(info.status ?? '') ? info : undefined;
  };
  return vm.waitUntil('the end of the migration', outcome, MIGRATION_TIMEOUT_MS);
}

/** Starts the migration of a running guest with limits under which it cannot end. */
export async function startLiveMigration(vm: Qemu, uri: string, pinAll: boolean): Promise<void> {
  await setPinAll(vm, pinAll);
  await vm.execute('migrate-set-parameters', {
    'downtime-limit': LITTLE_DOWNTIME_MS,
    'max-bandwidth': 2 ** 33,
  });
  await vm.execute('migrate', { uri });
}

/** Waits until a migration has been through some rounds of dirty pages, or has ended. */
export async function waitForRounds(vm: Qemu): Promise<void> {
  const enough = async () => {
    const { status = '', ram } = await queryMigrate(vm);
    const over = ['completed', 'failed', 'cancelled'].includes(status);
    return over || (ram?.['dirty-sync-count'] ?? 0) > LIVE_ROUNDS || undefined;
  };
  await vm.waitUntil(`${LIVE_ROUNDS} rounds`, enough, MIGRATION_TIMEOUT_MS);
}

/** QEMU's own live pre-copy of a running guest, some rounds long. */
export async function migrateLive(vm: Qemu, uri: string, pinAll: boolean): Promise<MigrateInfo> {
  await startLiveMigration(vm, uri, pinAll);
  await waitForRounds(vm);
  await vm.execute('migrate-set-parameters', { 'downtime-limit': ANY_DOWNTIME_MS });
  return waitForOutcome(vm);
}

/** Where a guest was when it was checked, and what it printed first when it went on. */
export interface GuestProof {
  readonly pass: number;
  readonly pages: number;
  readonly firstPrinted: number;
}

/** Checks every page of a paused guest, lets it go on and checks that its count goes on as well. */
export async function proveGuest(vm: Qemu): Promise<GuestProof> {
  const { pass, pages } = await verifyGuestRam(vm.ramFile);
  await vm.execute('cont');
  const firstPrinted = await vm.waitForPass();
  const latest = pass + BigInt(Math.ceil(PAGES_A_LINE / pages) + 1);
  if (firstPrinted < pass || firstPrinted > latest) {
    throw new Error(`the guest stood in pass ${pass} and went on with ${firstPrinted}`);
  }
  return { pass: Number(pass), pages, firstPrinted: Number(firstPrinted) };
}

/** The last pass that the guest printed; -1 when there is none. */
export async function lastPrinted(vm: Qemu): Promise<number> {
  return Number(parsePasses(await vm.serialText()).at(-1) ?? -1n);
}

/** Waits until the guest has been through its memory and then goes on changing it. */
export async function waitUntilDirtying(vm: Qemu): Promise<void> {
  await vm.waitForPass(1n, FIRST_PASS_TIMEOUT_MS);
}

/** @throws when the guest does not change its memory: it hangs, or QEMU has stopped it. */
export async function proveRunning(vm: Qemu): Promise<void> {
  const status = await vm.status();
  if (status !== 'running') throw new Error(`${vm.name} is ${status}, expected running`);
  const before = await steps(vm.ramFile);
  await vm.waitUntil('the guest to write', async () => (await steps(vm.ramFile)) > before || undefined);
}

async function steps(ramFile: string): Promise<bigint> {
  const file = await open(ramFile, 'r');
  try {
    return (await readGuestState(file)).steps;
  } finally {
    await file.close();
  }
}

/** For messages: how much memory a whole pass of the guest changes. */
export const regionText = (pages: number) => `${(pages * PAGE_SIZE) / MIB} MiB`;
