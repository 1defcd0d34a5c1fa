import { MigrationError, toMigrationError } from '../errors.ts';
import type { NativeDevices } from '../native/devices.ts';
import { native } from '../native/index.ts';

/** `iwarp`: the software RNIC, in user space over TCP. `verbs`: an RDMA device of this host, by rdma-core. */
export type ProviderName = 'iwarp' | 'verbs';
/**
 * `auto`: verbs where an RDMA device leads to the peer's address (listening: has the address, or any device is up for every
 * address), the software RNIC otherwise. Only this machine is asked: whether the peer speaks RDMA shows when a connection is tried.
 */
export type ProviderChoice = 'auto' | ProviderName;

/** The provider in use and why, for results and logs. */
export interface ChosenProvider {
  readonly name: ProviderName;
  readonly reason: string;
}

/** Long enough for a neighbour that answers; one that does not is no reason to keep a migration waiting. */
const FIND_DEVICE_MS = 1_000;

/**
 * Decides which provider carries a migration. Never a silent fallback: who asks for `verbs` gets it or an error.
 * @throws MigrationError PROVIDER_UNAVAILABLE, INVALID_ARGUMENT
 */
export async function chooseProvider(
  choice: ProviderChoice,
  endpoint: { readonly host: string; readonly port: number },
  direction: 'connect' | 'listen',
  devices: NativeDevices = native,
): Promise<ChosenProvider> {
  switch (choice) {
    case 'iwarp':
      return { name: 'iwarp', reason: 'asked for' };
    case 'verbs':
      return requireVerbs(devices);
    case 'auto':
      return findProvider(endpoint, direction, devices);
    default:
      throw new MigrationError(
        'INVALID_ARGUMENT',
        'configure',
        `expected auto, iwarp or verbs for provider but received ${String(choice satisfies never)}`,
      );
  }
}

function requireVerbs(devices: NativeDevices): ChosenProvider {
  const problem = devices.verbsProblem();
  if (problem !== null) throw new MigrationError('PROVIDER_UNAVAILABLE', 'configure', problem.message);
  return { name: 'verbs', reason: 'asked for' };
}

async function findProvider(
  endpoint: { readonly host: string; readonly port: number },
  direction: 'connect' | 'listen',
  devices: NativeDevices,
): Promise<ChosenProvider> {
  const problem = devices.verbsProblem();
  if (problem !== null) return software(`the verbs provider does not load: ${problem.reason}`);
  try {
    const { reachable, reason } = await devices.findDevice(endpoint, direction, FIND_DEVICE_MS);
    return reachable ? { name: 'verbs', reason } : software(reason);
  } catch (error) {
    throw toMigrationError(error, 'configure');
  }
}

function software(why: string): ChosenProvider {
  return { name: 'iwarp', reason: `the software RNIC carries the migration: ${why}` };
}
