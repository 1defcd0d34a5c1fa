/** Which dirty trackers a live migration from here can use, found by trying and not by the kernel's version. */
import type { TrackerSupport } from '../ram/trackers/options.ts';
import { type Check, named } from './check.ts';

/** `support`: of `probeTrackers([])`. */
export function checkTrackers({ writeProtect, writeProtectProblem, softDirty }: TrackerSupport): Check {
  const details = {
    'write-protect': writeProtect ?? 'none',
    'soft-dirty': softDirty,
    bitmap: true,
    hash: true,
  };
  const check = named('trackers', 'dirty trackers', { details });
  const others = `${softDirty ? 'soft-dirty, ' : ''}bitmap, hash`;
  if (writeProtect === 'async') return check.ok(`write-protect (asynchronous), ${others}`);
  if (writeProtect === 'fault-thread') {
    return check.warning(
      `write-protect with a fault thread, which costs the guest a detour for each page's first write; ${others}`,
      'boot kernel 6.7 or newer for asynchronous write-protection',
    );
  }
  return check.warning(
    `${others}; no write-protect: ${writeProtectProblem}`,
    'boot kernel 6.7 or newer, or run as root; hash works everywhere, and reads all memory in use each round',
  );
}
