/** The addon and what can carry a migration. */
import { type Check, named } from './check.ts';
import type { System } from './system.ts';

const BUILD =
  'apt-get install build-essential cmake, then npm run build:native in the folder of rdma-migrate (npm rebuild rdma-migrate where it is a dependency)';

/** `failure`: what loading it threw; undefined: it loaded. */
export function checkAddon(failure: unknown): Check {
  const check = named('addon', 'native addon', { essential: true });
  if (failure === undefined) return check.ok('loaded');
  return check.missing(`does not load: ${reasonOf(failure)}`, BUILD);
}

function reasonOf(failure: unknown): string {
  if (!(failure instanceof Error)) return String(failure);
  // Our own error has the loader's as its cause; its first line names the file and the reason.
  const reason = failure.cause instanceof Error ? failure.cause.message : failure.message;
  return reason.split('\n', 1)[0] ?? reason;
}

export function checkIwarp(addonLoads: boolean): Check {
  const check = named('provider-iwarp', 'provider iwarp', { essential: true });
  if (addonLoads) return check.ok('software RNIC over TCP: needs no device, kernel module or privileges');
  return check.missing('part of the addon, which does not load', BUILD);
}

export function checkVerbs(): Check {
  return named('provider-verbs', 'provider verbs').missing(
    'not in this build: no RDMA device is used, whatever this machine has',
    'use --provider iwarp or auto; to a peer that must be reached through a device, use its iWARP device (siw or an iWARP NIC) there',
  );
}

/** What the kernel has; this build uses none of it, a QEMU on this machine can. */
export function checkDevices({ read, list }: System): Check {
  const root = '/sys/class/infiniband';
  const ports = list(root).flatMap((device) =>
    list(`${root}/${device}/ports`).map((port) => {
      const folder = `${root}/${device}/ports/${port}`;
      const link = read(`${folder}/link_layer`)?.trim() ?? 'unknown';
      const state =
        read(`${folder}/state`)
          ?.trim()
          .replace(/^\d+: /, '') ?? 'unknown';
      return `${device} port ${port} (${link}, ${state})`;
    }),
  );
  const check = named('rdma-devices', 'RDMA devices', { details: { devices: list(root), ports } });
  if (list(root).length === 0) return check.ok('none; the software iWARP needs none');
  return check.ok(ports.length > 0 ? ports.join(', ') : list(root).join(', '));
}
