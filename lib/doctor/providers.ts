/** The addon and what can carry a migration. */
import type { NativeDevices } from '../native/devices.ts';
import { type AddonFile, addonFiles, buildCommand, findAddon } from '../native/load.ts';
import { type Check, named } from './check.ts';

/** `failure`: what loading it threw; undefined: it loaded. */
export function checkAddon(failure: unknown, files: readonly AddonFile[] = addonFiles()): Check {
  const file = findAddon(files);
  const looked = files.map(({ path, kind }) => `${path} (${kind})`);
  const details = { file: file?.path ?? '', kind: file?.kind ?? 'missing', 'looked-for': looked };
  const check = named('addon', 'native addon', { essential: true, details });
  if (file === undefined) return check.missing(`there is neither of ${looked.join(' and ')}`, buildCommand());
  if (failure === undefined) return check.ok(`loaded: ${file.path} (${file.kind})`);
  return check.missing(`${file.path} (${file.kind}) does not load: ${reasonOf(failure)}`, buildCommand());
}

function reasonOf(failure: unknown): string {
  if (!(failure instanceof Error)) return String(failure);
  // Our own error has the loader's error as its cause; its first line names the file and the reason.
  const reason = failure.cause instanceof Error ? failure.cause.message : failure.message;
  return reason.split('\n', 1)[0] ?? reason;
}

export function checkIwarp(addonLoads: boolean): Check {
  const check = named('provider-iwarp', 'provider iwarp', { essential: true });
  if (addonLoads) return check.ok('software RNIC over TCP: needs no device, kernel module or privileges');
  return check.missing('part of the addon, which does not load', buildCommand());
}

/** `devices`: the addon's; undefined: it does not load. */
export function checkVerbs(devices: Pick<NativeDevices, 'verbsProblem'> | undefined): Check {
  const check = named('provider-verbs', 'provider verbs');
  if (devices === undefined) return check.missing('part of the addon, which does not load', buildCommand());
  const problem = devices.verbsProblem();
  if (problem === null) return check.ok('loaded: RDMA devices of this machine can be used');
  return check.missing(`no RDMA device can be used: ${problem.reason}`, problem.remedy);
}
