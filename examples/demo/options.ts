import { parseArgs } from 'node:util';
import { MigrationError } from 'rdma-migrate';

const MIB = 2 ** 20;
const UNITS: Readonly<Record<string, number>> = { M: MIB, G: 1024 * MIB };
const SMALLEST = 16 * MIB;
const LARGEST = 1024 * 1024 * MIB;

export const USAGE = `npm run demo -- [options]
  --ram SIZE    the VM's RAM, such as 512M or 2G (default 256M; a synthetic VM: 1G)
  --pin-all     the destination registers all RAM at once, as QEMU's rdma-pin-all does
  --crc         CRC32C on the wire
  --synthetic   migrate a synthetic VM although QEMU is installed
  --help`;

export interface DemoOptions {
  /** Bytes, a multiple of 1 MiB; undefined: the default of the kind of VM. */
  readonly ramBytes: number | undefined;
  readonly pinAll: boolean;
  readonly crc: boolean;
  readonly synthetic: boolean;
  readonly help: boolean;
}

/** @throws MigrationError INVALID_ARGUMENT, with the usage */
export function parseOptions(args: readonly string[]): DemoOptions {
  const { ram, 'pin-all': pinAll, crc, synthetic, help } = parse(args);
  const ramBytes = ram === undefined ? undefined : parseSize(ram);
  return { ramBytes, pinAll, crc, synthetic, help };
}

function parse(args: readonly string[]) {
  const flag = { type: 'boolean', default: false } as const;
  const options = {
    ram: { type: 'string' },
    'pin-all': flag,
    crc: flag,
    synthetic: flag,
    help: flag,
  } as const;
  try {
    return parseArgs({ args: [...args], options, strict: true }).values;
  } catch (cause) {
    throw invalid((cause as Error).message);
  }
}

function parseSize(text: string): number {
  const [, digits = '', unit = ''] = /^(\d{1,7})([MG])$/.exec(text) ?? [];
  const bytes = Number(digits) * (UNITS[unit] ?? 0);
  if (bytes >= SMALLEST && bytes <= LARGEST) return bytes;
  throw invalid(`expected a size from 16M to 1024G for --ram but received '${text}'`);
}

function invalid(message: string): MigrationError {
  return new MigrationError('INVALID_ARGUMENT', 'configure', `${message}\n\n${USAGE}`);
}
