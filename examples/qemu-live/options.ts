import { parseArgs } from 'node:util';
import { MigrationError } from 'rdma-migrate';
import { TRACKERS, type TrackerName } from './trackers.ts';

const MIB = 2 ** 20;

export const USAGE = `npm run demo:live -- [options]
  --ram SIZE              the VM's RAM (default 128M)
  --working-set SIZE      how much of it the guest rewrites for ever (default 32M)
  --tracker KIND          how the guest's writes are detected: ${TRACKERS.join(', ')} (default ${TRACKERS[0]})
  --downtime-limit MS     how long the guest may stand still (default 300)
  --time-limit S          give up, and let the guest run on, when it cannot be stopped by then (default 60)
  --max-bandwidth SIZE    bytes per second, such as 200M (default no limit)
  --avail-switchover-bandwidth SIZE
                          bytes per second to reckon with once the guest stands (default: estimated)
  --auto-converge         slow the guest down when it writes too fast
  --pin-all               the destination registers all RAM at once
  --listen HOST           the address that the VM is sent to (default 127.0.0.1)
  --repeat N              migrate N times, each time into a new QEMU (default 1)
  --chaos                 with --repeat: in half of the migrations, cancel or kill the destination at a random moment;
                          goes on after N until both have ended a migration
  --seed N                for --chaos (default: random, and printed)
  --json                  one line of JSON for each migration
  --help`;

export interface LiveDemoOptions {
  readonly ramBytes: number;
  readonly regionBytes: number;
  readonly tracker: TrackerName;
  readonly downtimeLimitMs: number;
  readonly timeLimitMs: number;
  readonly maxBandwidth: bigint;
  /** 0: estimated. */
  readonly availSwitchoverBandwidth: bigint;
  readonly autoConverge: boolean;
  readonly pinAll: boolean;
  readonly listen: string;
  readonly repeat: number;
  readonly chaos: boolean;
  readonly seed: number;
  readonly json: boolean;
  readonly help: boolean;
}

const text = { type: 'string' } as const;
const flag = { type: 'boolean', default: false } as const;
const OPTIONS = {
  ...{ ram: text, 'working-set': text, tracker: text, 'downtime-limit': text, 'max-bandwidth': text },
  ...{ 'avail-switchover-bandwidth': text, 'time-limit': text, listen: text, repeat: text, seed: text },
  ...{ 'auto-converge': flag, 'pin-all': flag, chaos: flag, json: flag, help: flag },
} as const;

/** @throws MigrationError INVALID_ARGUMENT, with the usage */
export function parseOptions(args: readonly string[]): LiveDemoOptions {
  const values = parse(args);
  const ramBytes = size('ram', values.ram ?? '128M', 16);
  const regionBytes = size('working-set', values['working-set'] ?? '32M', 2);
  if (regionBytes + 8 * MIB > ramBytes)
    throw invalid('--working-set must leave 8M of --ram to the firmware and the guest itself');
  return {
    ramBytes,
    regionBytes,
    tracker: tracker(values.tracker ?? (TRACKERS[0] as TrackerName)),
    downtimeLimitMs: integer('downtime-limit', values['downtime-limit'] ?? '300', 1, 3_600_000),
    timeLimitMs: 1000 * integer('time-limit', values['time-limit'] ?? '60', 1, 86_400),
    maxBandwidth: bandwidth('max-bandwidth', values['max-bandwidth']),
    availSwitchoverBandwidth: bandwidth('avail-switchover-bandwidth', values['avail-switchover-bandwidth']),
    listen: values.listen ?? '127.0.0.1',
    repeat: integer('repeat', values.repeat ?? '1', 1, 1_000_000),
    seed:
      values.seed === undefined
        ? Math.floor(Math.random() * 2 ** 31)
        : integer('seed', values.seed, 0, 2 ** 31),
    ...{ autoConverge: values['auto-converge'], pinAll: values['pin-all'] },
    ...{ chaos: values.chaos, json: values.json, help: values.help },
  };
}

function parse(args: readonly string[]) {
  try {
    return parseArgs({ args: [...args], options: OPTIONS, strict: true }).values;
  } catch (cause) {
    throw invalid((cause as Error).message);
  }
}

function bandwidth(name: string, given: string | undefined): bigint {
  return given === undefined ? 0n : BigInt(size(name, given, 1));
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

function tracker(given: string): TrackerName {
  const found = TRACKERS.find((name) => name === given);
  if (found !== undefined) return found;
  throw invalid(`expected ${TRACKERS.join(' or ')} for --tracker but received '${given}'`);
}

function invalid(message: string): MigrationError {
  return new MigrationError('INVALID_ARGUMENT', 'configure', `${message}\n\n${USAGE}`);
}
