import { parseArgs } from 'node:util';
import type { ProviderChoice, TrackerChoice } from 'rdma-migrate';
import type { MoveOptions } from './host.ts';

const WRONG_USAGE = 2;
const USAGE = `npm run demo:embed -- [options]
  --moves N              how often the guest moves (default 10)
  --mebibytes N          its RAM in MiB (default 64)
  --chaos                cancel some migrations and kill some destinations; goes on until each has broken one
  --seed N               for --chaos (default 1)
  --tracker NAME         auto, write-protect, soft-dirty or hash (default auto)
  --provider NAME        auto, iwarp or verbs (default iwarp)
  --address ADDRESS      of this machine, that all hosts listen on (default 127.0.0.1)
  --downtime-limit MS    (default 300)
  --max-bandwidth N      bytes per second (default 0: no limit)
  --time-limit MS        for one move (default 30000)
  --tls-creds DIR        credentials of both ends
  --tls-hostname NAME    that the destination's certificate has
  --help`;

export interface Options {
  readonly moves: number;
  readonly bytes: bigint;
  readonly chaos: boolean;
  readonly seed: number;
  /** An address of this machine that all hosts listen on. */
  readonly address: string;
  readonly move: Omit<MoveOptions, 'uri'>;
}

function parse(args: readonly string[]) {
  return parseArgs({
    args: [...args],
    options: {
      moves: { type: 'string', default: '10' },
      mebibytes: { type: 'string', default: '64' },
      chaos: { type: 'boolean', default: false },
      seed: { type: 'string', default: '1' },
      tracker: { type: 'string', default: 'auto' },
      provider: { type: 'string', default: 'iwarp' },
      address: { type: 'string', default: '127.0.0.1' },
      'downtime-limit': { type: 'string', default: '300' },
      'max-bandwidth': { type: 'string', default: '0' },
      'time-limit': { type: 'string', default: '30000' },
      'tls-creds': { type: 'string' },
      'tls-hostname': { type: 'string' },
      help: { type: 'boolean', default: false },
    },
  }).values;
}

function optionsOf(values: ReturnType<typeof parse>): Options {
  const { 'tls-creds': creds, 'tls-hostname': hostname } = values;
  return {
    moves: Number(values.moves),
    bytes: BigInt(values.mebibytes) << 20n,
    chaos: values.chaos,
    seed: Number(values.seed),
    address: values.address,
    move: {
      provider: values.provider as ProviderChoice,
      tracker: values.tracker as TrackerChoice,
      downtimeLimitMs: Number(values['downtime-limit']),
      maxBandwidth: BigInt(values['max-bandwidth']),
      timeLimitMs: Number(values['time-limit']),
      ...(creds !== undefined && { tls: { creds, ...(hostname !== undefined && { hostname }) } }),
    },
  };
}

/** Undefined when there is nothing to run: the usage was asked for, or the arguments are wrong, which the exit code then says. */
export function readOptions(args: readonly string[]): Options | undefined {
  try {
    const values = parse(args);
    if (!values.help) return optionsOf(values);
    console.log(USAGE);
  } catch (error) {
    console.error(`${(error as Error).message}\n${USAGE}`);
    process.exitCode = WRONG_USAGE;
  }
  return undefined;
}
