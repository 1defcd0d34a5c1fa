/** The devices of a QEMU, as far as its migration stream depends on them: the types of its objects, and what is on PCI. */
import { z } from 'zod';
import { MigrationError } from '../errors.ts';
import type { QmpClient } from '../qmp/client.ts';
import { parsed } from './machine.ts';

export const MOST_DEVICES = 8192;
const UNATTACHED = '/machine/unattached';
const FOLDERS = ['/machine/peripheral', '/machine/peripheral-anon', UNATTACHED];
/** What the machine is made of, CPUs too: another release of QEMU may divide the same machine in another way. */
export const INTERNAL = 'internal ';
const listing = z.array(z.object({ name: z.string().max(255), type: z.string().max(255) })).max(65_536);

const id = z.object({ vendor: z.number().int(), device: z.number().int() });
const small = z.number().int().min(0).max(0xffff);
const pciDevice = z.object({ slot: small, function: small, id });
const pci = z.array(z.object({ devices: z.array(pciDevice).max(MOST_DEVICES) })).max(256);

/**
 * A line for each device, sorted: `TYPE`, `internal TYPE`, or `pci SLOT.FUNCTION VENDOR:DEVICE` of the first bus. Two machines that load each other's streams have the same.
 * @throws MigrationError GUEST_ERROR; what QMP throws
 */
export async function listDevices(qmp: QmpClient): Promise<string[]> {
  const lines: string[] = [];
  for (const path of FOLDERS) {
    const listed = await qmp.execute('qom-list', { path }).catch(orNothing);
    for (const { name, type } of parsed(listing, `qom-list ${path}`, listed ?? [])) {
      const [, device] = /^child<(.+)>$/.exec(type) ?? [];
      if (device === undefined) continue;
      if (path !== UNATTACHED) lines.push(device);
      else if (name.startsWith('device[')) lines.push(`${INTERNAL}${device}`);
    }
  }
  const buses = parsed(pci, 'query-pci', (await qmp.execute('query-pci').catch(orNothing)) ?? []);
  lines.push(...buses.slice(0, 1).flatMap(({ devices }) => devices.map(pciLine)));
  if (lines.length > MOST_DEVICES)
    throw new MigrationError(
      'GUEST_ERROR',
      'configure',
      `QEMU has ${lines.length} devices, more than ${MOST_DEVICES}`,
    );
  return lines.sort();
}

/** What is behind a bridge is not listed: the guest numbers buses, and has not done so where QEMU has just started. Its types are. */
function pciLine({ slot, function: fn, id: { vendor, device } }: z.infer<typeof pciDevice>): string {
  const hex = (value: number): string => value.toString(16).padStart(4, '0');
  return `pci ${slot}.${fn} ${hex(vendor)}:${hex(device)}`;
}

/** A machine without PCI, or without a folder. */
function orNothing(error: unknown): undefined {
  if (error instanceof MigrationError && error.code === 'PEER_ERROR') return undefined;
  throw error;
}

/** What is in one list only, or more often there. */
export function missing(from: readonly string[], other: readonly string[]): string[] {
  const left = new Map<string, number>();
  for (const line of other) left.set(line, (left.get(line) ?? 0) + 1);
  return from.filter((line) => {
    const count = left.get(line) ?? 0;
    left.set(line, count - 1);
    return count <= 0;
  });
}
