import { parseArgs } from 'node:util';
import { MigrationError } from 'rdma-migrate';
import type { MachineOptions } from './machine.ts';

const MIB = 2 ** 20;
const TRACKERS = ['auto', 'soft-dirty', 'hash', 'none'];
const MACHINES = ['pc', 'q35'] as const;

export const USAGE = `npm run demo:live -- [options]
  --ram SIZE              the VM's RAM (default 128M)
  --working-set SIZE      how much of it the guest rewrites for ever (default 32M)
  --machine TYPE          ${MACHINES.join(' or ')} (default ${MACHINES[0]})
  --nodes N               NUMA nodes, each with an equal part of RAM (default 1)
  --disk                  a qcow2 disk on shared storage, whose contents are checked after each migration
  --qemu PATH             the QEMU to use (default qemu-system-x86_64)
  --tracker KIND          how the guest's writes are detected: ${TRACKERS.join(', ')} (default ${TRACKERS[0]})
  --downtime-limit MS     how long the guest may stand still (default 300)
  --time-limit S          give up, and let the guest run on, when it cannot be stopped by then (default 60)
  --max-bandwidth SIZE    bytes per second, such as 200M (default no limit)
  --avail-switchover-bandwidth SIZE
                          bytes per second to reckon with once the guest stands (default: estimated)
  --auto-converge         slow the guest down when it writes too fast
  --pin-all               the destination registers all RAM at once
  --channels N            queue pairs side by side
  --listen HOST           the address that the VM is sent to (default 127.0.0.1)
  --repeat N              migrate N times, each time into a new QEMU (default 1)
  --chaos                 with --repeat: in half of the migrations, cancel or kill the destination at a random moment;
                          goes on after N until both have ended a migration
  --seed N                for --chaos (default: random, and printed)
  --web [HOST:]PORT       show each migration on a page, whose address is printed
  --json                  one line of JSON for each migration
  --help`;

export interface LiveDemoOptions extends Omit<MachineOptions, 'folder'> {
  readonly regionBytes: number;
  /** Of the two commands. */
  readonly moveArgs: readonly string[];
  readonly receiveArgs: readonly string[];
  readonly repeat: number;
  readonly chaos: boolean;
  readonly seed: number;
  readonly json: boolean;
  readonly help: boolean;
}

/** A destination that was killed is asked in vain for so long, seconds. */
const SETTLE_S = '2';

const text = { type: 'string' } as const;
const flag = { type: 'boolean', default: false } as const;
const OPTIONS = {
  ...{ ram: text, 'working-set': text, tracker: text, 'downtime-limit': text, 'max-bandwidth': text },
  ...{
    'avail-switchover-bandwidth': text,
    'time-limit': text,
    listen: text,
    repeat: text,
    seed: text,
    web: text,
  },
  ...{ machine: text, nodes: text, qemu: text, channels: text, disk: flag },
  ...{ 'auto-converge': flag, 'pin-all': flag, chaos: flag, json: flag, help: flag },
} as const;

type Values = ReturnType<typeof parse>;

/** @throws MigrationError INVALID_ARGUMENT, with the usage */
export function parseOptions(args: readonly string[]): LiveDemoOptions {
  const values = parse(args);
  const ramBytes = size('ram', values.ram ?? '128M', 16);
  const regionBytes = size('working-set', values['working-set'] ?? '32M', 2);
  const nodes = integer('nodes', values.nodes ?? '1', 1, 8);
  if (ramBytes % (nodes * MIB) !== 0) throw invalid('--ram must be whole mebibytes for each of --nodes');
  if (regionBytes + 8 * MIB > ramBytes / nodes)
    throw invalid(
      "--working-set must leave 8M of the first node's --ram to the firmware and the guest itself",
    );
  const { chaos, json, help, disk } = values;
  return {
    ...{ ramBytes, regionBytes, nodes, disk },
    machine: oneOf('machine', MACHINES, values.machine ?? MACHINES[0]),
    executable: values.qemu ?? 'qemu-system-x86_64',
    listen: values.listen ?? '127.0.0.1',
    moveArgs: moveArgs(values),
    receiveArgs: channelArgs(values),
    repeat: integer('repeat', values.repeat ?? '1', 1, 1_000_000),
    seed:
      values.seed === undefined
        ? Math.floor(Math.random() * 2 ** 31)
        : integer('seed', values.seed, 0, 2 ** 31),
    ...{ chaos, json, help },
  };
}

function moveArgs(values: Values): string[] {
  const limit = integer('downtime-limit', values['downtime-limit'] ?? '300', 1, 3_600_000);
  const seconds = integer('time-limit', values['time-limit'] ?? '60', 1, 86_400);
  const sizes = (['max-bandwidth', 'avail-switchover-bandwidth'] as const).flatMap((name) => {
    const given = values[name];
    return given === undefined ? [] : [`--${name}`, String(size(name, given, 1))];
  });
  return [
    ...['--downtime-limit', String(limit), '--time-limit', String(seconds), '--settle-timeout', SETTLE_S],
    ...['--tracker', oneOf('tracker', TRACKERS, values.tracker ?? 'auto'), ...sizes, ...channelArgs(values)],
    ...(values.web === undefined ? [] : ['--web', values.web]),
    ...(values['auto-converge'] ? ['--auto-converge'] : []),
    ...(values['pin-all'] ? ['--pin-all'] : []),
  ];
}

const channelArgs = ({ channels }: Values): string[] =>
  channels === undefined ? [] : ['--channels', String(integer('channels', channels, 1, 16))];

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, strict: true }).values;
  } catch (cause) {
    throw invalid((cause as Error).message);
  }
}

function size(name: string, given: string, least: number): number {
  const [, digits = '', unit = ''] = /^(\d{1,7})([MG])$/.exec(given) ?? [];
  const mebibytes = Number(digits) * (unit === 'G' ? 1024 : 1);
  if (mebibytes >= least && mebibytes <= 2 ** 20) return mebibytes * MIB;
  throw invalid(`expected a size from ${least}M to 1024G for --${name} but received '${given}'`);
}

function integer(name: string, given: string, least: number, most: number): number {
  const value = /^\d{1,10}$/.test(given) ? Number(given) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw invalid(`expected a number from ${least} to ${most} for --${name} but received '${given}'`);
}

function oneOf<T extends string>(name: string, known: readonly T[], given: string): T {
  const found = known.find((value) => value === given);
  if (found !== undefined) return found;
  throw invalid(`expected ${known.join(' or ')} for --${name} but received '${given}'`);
}

function invalid(message: string): MigrationError {
  return new MigrationError('INVALID_ARGUMENT', 'configure', `${message}\n\n${USAGE}`);
}
