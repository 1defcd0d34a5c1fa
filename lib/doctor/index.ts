/** What this machine has for migrations, what is missing, and how to get it. */
import { MigrationError } from '../errors.ts';
import { toolVersion } from '../image/tool.ts';
import type { NativeDevices } from '../native/devices.ts';
import { checkCgroupMemory } from './cgroup.ts';
import type { Check } from './check.ts';
import { checkDevices } from './devices.ts';
import { checkAvailableMemory, checkHugePages, checkLockedMemory, checkShmemHugePages } from './memory.ts';
import { checkCrc, checkKernel, checkNode } from './platform.ts';
import { checkAddon, checkIwarp, checkVerbs } from './providers.ts';
import { checkQemu } from './qemu.ts';
import { thisSystem } from './system.ts';
import { checkTls } from './tls.ts';
import { checkTrackers } from './trackers.ts';

export type { Check, CheckDetail, CheckStatus } from './check.ts';
export type { System } from './system.ts';

/** Plain data. */
export interface DoctorReport {
  /** Of rdma-migrate. */
  readonly version: string;
  /** A migration over iWARP is possible, with the credentials if there are any: everything essential is ok. */
  readonly ready: boolean;
  readonly checks: readonly Check[];
}

export interface DoctorOptions {
  /** Credentials to look at too. */
  readonly tls?: { readonly creds: string; readonly hostname?: string };
  readonly signal?: AbortSignal;
}

/**
 * Examines this machine, and if the addon loads migrates a VM of 64 MiB through 127.0.0.1 and writes 1 MiB through each RDMA device to
 * itself. Takes a second or two, at most some 30, and 10 more for each device that does not work.
 * Works without the addon. Whatever is wrong is in the report.
 * @throws MigrationError CANCELLED
 */
export async function runDoctor({ signal, tls }: DoctorOptions = {}): Promise<DoctorReport> {
  const system = thisSystem();
  const { native: found, failure } = await loadAddon();
  const addon = checkAddon(failure);
  const verbs = checkVerbs(found);
  const qemu = await checkQemu(system, signal).catch((error: unknown) => throwCancelled(signal, error));
  const checks = [
    checkNode(system),
    checkKernel(system),
    addon,
    checkIwarp(addon.status === 'ok'),
    verbs,
    ...(await checkDevices(system, verbs.status === 'ok' ? found : undefined)),
    checkCrc(system),
    checkAvailableMemory(system),
    checkCgroupMemory(system),
    checkLockedMemory(system),
    checkHugePages(system),
    checkShmemHugePages(system),
    qemu,
    ...(tls ? await checkTls(tls.creds, { ...tls, ...(signal && { signal }) }) : []),
    ...(addon.status === 'ok'
      ? [await probedTrackers(), await (await import('./self-test.ts')).selfTest(signal)]
      : []),
  ];
  if (signal?.aborted) throwCancelled(signal, signal.reason);
  const ready = checks.every(({ essential, status }) => !essential || status === 'ok');
  return { version: await toolVersion(), ready, checks };
}

/** Loaded late: it needs the addon. */
async function probedTrackers(): Promise<Check> {
  const { probeTrackers } = await import('../ram/trackers/index.ts');
  return checkTrackers(await probeTrackers([]));
}

async function loadAddon(): Promise<{ readonly native?: NativeDevices; readonly failure?: unknown }> {
  try {
    return { native: (await import('../native/index.ts')).native };
  } catch (failure) {
    return { failure };
  }
}

function throwCancelled(signal: AbortSignal | undefined, cause: unknown): never {
  if (!signal?.aborted) throw cause;
  throw new MigrationError('CANCELLED', 'configure', 'the examination was cancelled', { cause });
}
