/** RDMA devices: what the kernel has, what the verbs provider finds of each, and whether it carries a WRITE. */
import type { NativeDevice, NativeDevicePort, NativeDevices, NativeProof } from '../native/devices.ts';
import { type Check, type CheckDetail, named } from './check.ts';
import type { System } from './system.ts';

export const KERNEL_DEVICES = '/sys/class/infiniband';
const PROOF_TIMEOUT_MS = 10_000;
const OPEN =
  'modprobe -a ib_uverbs rdma_ucm; apt-get install ibverbs-providers; give this user read and write access to /dev/infiniband/uverbs* and /dev/infiniband/rdma_cm';
/** A port's tables hold many empty or duplicate entries; showing more than these does not help. */
const SHOWN_GIDS = 4;

/**
 * A check of all devices together, and one for each device that the verbs provider finds, with a WRITE through it as proof.
 *
 * @param devices - the addon's; undefined: the verbs provider does not load, and devices are those that the kernel lists
 */
export async function checkDevices(
  system: System,
  devices: Pick<NativeDevices, 'listDevices' | 'proveDevice'> | undefined,
): Promise<readonly Check[]> {
  const kernel = system.list(KERNEL_DEVICES);
  const check = named('rdma-devices', 'RDMA devices', { details: { devices: kernel } });
  if (kernel.length === 0) return [check.ok('none; the software iWARP needs none')];
  const names = kernel.join(', ');
  if (devices === undefined) return [check.warning(`${names}, which nothing uses`, 'see provider verbs')];
  try {
    const usable = await devices.listDevices();
    if (usable.length === 0) return [check.warning(`${names}, which libibverbs does not find`, OPEN)];
    // One after the other: two proofs at a time would compete for locked memory.
    const each: Check[] = [];
    for (const device of usable) each.push(await checkDevice(device, devices));
    return [check.ok(names), ...each];
  } catch (error) {
    return [check.warning(`${names}: ${error instanceof Error ? error.message : String(error)}`, OPEN)];
  }
}

async function checkDevice(
  device: NativeDevice,
  devices: Pick<NativeDevices, 'proveDevice'>,
): Promise<Check> {
  const { name, transport, addresses, ports } = device;
  const notes = device.problem === '' ? [...ports.map(portText), limitsText(device)] : [];
  const check = named('rdma-device', `RDMA device ${name}`, { details: detailsOf(device) });
  if (device.problem !== '') return check.warning(device.problem, OPEN);
  const found = `${transport}, ${addresses.join(', ') || 'no address'}`;
  const interfaces = interfacesOf(device);
  if (!ports.some(({ state }) => state === 'ACTIVE')) {
    const remedy = `check cable and switch; ip link set ${interfaces} up; for InfiniBand start a subnet manager`;
    return check.warning(`${found}: no port is ACTIVE`, remedy, { notes });
  }
  if (addresses.length === 0) {
    return check.warning(
      `${found}: rdma_cm cannot reach it`,
      `ip address add ADDRESS/BITS dev ${interfaces}`,
      {
        notes,
      },
    );
  }
  const proof = await devices.proveDevice(name, PROOF_TIMEOUT_MS);
  const extra = { notes, details: proofDetails(proof) };
  const text = `${found}; ${proof.message}`;
  if (proof.ok) return check.ok(`${text} (${proof.milliseconds.toFixed(0)} ms, connecting included)`, extra);
  return check.warning(`${text}`, 'see locked memory below, and dmesg for what the driver says', extra);
}

function interfacesOf({ ports }: NativeDevice): string {
  const names = new Set(ports.flatMap(({ gids }) => gids.map(({ netdev }) => netdev)).filter((name) => name));
  return [...names].join(', ') || 'INTERFACE';
}

const gidText = ({ index, gid, type, netdev }: NativeDevicePort['gids'][number]) =>
  [`[${index}] ${gid}`, type, netdev].filter((part) => part !== '').join(' ');

function portText({ number, state, linkLayer, activeMtu, gids }: NativeDevicePort): string {
  const shown = gids.slice(0, SHOWN_GIDS).map(gidText);
  const more = gids.length > SHOWN_GIDS ? [`${gids.length - SHOWN_GIDS} more`] : [];
  const mtu = activeMtu > 0 ? `, MTU ${activeMtu}` : '';
  return `port ${number}: ${state}, ${linkLayer}${mtu}; GIDs: ${[...shown, ...more].join(', ') || 'none'}`;
}

function limitsText({ limits, firmware }: NativeDevice): string {
  const most = limits.maxMrSize > 1n << 50n ? 'no limit' : `${limits.maxMrSize} bytes`;
  return (
    `limits: registration ${most}, ${limits.maxMr} registrations, ${limits.maxQp} queue pairs, ` +
    `${limits.maxQpWr} requests a queue, ${limits.maxQpRdAtom} READs at a time${firmware && `; firmware ${firmware}`}`
  );
}

function detailsOf({ name, transport, firmware, problem, limits, ports, addresses }: NativeDevice) {
  const details: Record<string, CheckDetail> = {
    device: name,
    transport,
    firmware,
    problem,
    addresses,
    ports: ports.map(
      ({ number, state, linkLayer, activeMtu }) => `${number} ${state} ${linkLayer} ${activeMtu}`,
    ),
    gids: ports.flatMap((port) => port.gids.map((gid) => `${port.number} ${gidText(gid)}`)),
    'max-mr-size': limits.maxMrSize,
    'max-mr': limits.maxMr,
    'max-qp': limits.maxQp,
    'max-qp-wr': limits.maxQpWr,
    'max-cqe': limits.maxCqe,
    'max-qp-rd-atom': limits.maxQpRdAtom,
  };
  return details;
}

function proofDetails({
  ok,
  address,
  bytes,
  milliseconds,
  message,
}: NativeProof): Record<string, CheckDetail> {
  return {
    'proof-ok': ok,
    'proof-address': address,
    'proof-bytes': bytes,
    'proof-milliseconds': milliseconds,
    'proof-message': message,
  };
}
