/** What both examples of `rdma-migrate/verbs` are told, and how they stop. */
import { type ParseArgsConfig, parseArgs } from 'node:util';
import type { Endpoint, ProviderChoice } from 'rdma-migrate/verbs';

export interface Arguments {
  /** Be the side that waits. With neither, both sides run in this process. */
  readonly listen: Endpoint | undefined;
  readonly connect: Endpoint | undefined;
  readonly provider: ProviderChoice;
  readonly crc: boolean;
  readonly json: boolean;
  /** The numbers of this example, by name. */
  readonly numbers: Readonly<Record<string, number>>;
  /** The switches of this example, by name. */
  readonly switches: Readonly<Record<string, boolean>>;
}

export interface Usage {
  /** Printed by --help, before the options that all examples have. */
  readonly text: string;
  /** With their defaults; all at least 1. */
  readonly numbers: Readonly<Record<string, number>>;
  readonly switches?: readonly string[];
}

const COMMON = `  --listen HOST:PORT    only wait for the other side; port 0: any free one
  --connect HOST:PORT   only connect to the other side
                        (with neither, both sides run in this process)
  --provider NAME       auto, iwarp (the software RNIC) or verbs (an RDMA device); default auto
  --crc                 CRC32C on the software RNIC
  --json                one line of JSON for each result
  --help                this`;

const EXIT_USAGE = 2;

/** Ends the process after --help and after a mistake. */
export function readArguments(usage: Usage, argv: readonly string[]): Arguments {
  try {
    return parse(usage, argv);
  } catch (error) {
    console.error(`${(error as Error).message}\n\n${usage.text}\n${COMMON}`);
    process.exit(EXIT_USAGE);
  }
}

function parse(usage: Usage, argv: readonly string[]): Arguments {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  const options: NonNullable<ParseArgsConfig['options']> = {
    listen: text,
    connect: text,
    provider: { ...text, default: 'auto' },
    crc: flag,
    json: flag,
    help: flag,
  };
  for (const [name, value] of Object.entries(usage.numbers))
    options[name] = { ...text, default: String(value) };
  for (const name of usage.switches ?? []) options[name] = flag;
  const { values } = parseArgs({ args: [...argv], options, strict: true });
  if (values.help === true) {
    console.log(`${usage.text}\n${COMMON}`);
    process.exit(0);
  }
  if (values.listen !== undefined && values.connect !== undefined)
    throw new Error('--listen is for one side and --connect for the other: give one of them');
  return {
    listen: endpointOf(values.listen),
    connect: endpointOf(values.connect),
    provider: values.provider as ProviderChoice,
    crc: values.crc === true,
    json: values.json === true,
    numbers: Object.fromEntries(
      Object.keys(usage.numbers).map((name) => [name, numberOf(name, values[name])]),
    ),
    switches: Object.fromEntries((usage.switches ?? []).map((name) => [name, values[name] === true])),
  };
}

function numberOf(name: string, value: unknown): number {
  const number = Number(value);
  if (Number.isSafeInteger(number) && number >= 1) return number;
  throw new Error(`expected an integer from 1 on for --${name} but received ${String(value)}`);
}

/** `192.0.2.1:4444`, `name:4444` or `[2001:db8::1]:4444`. */
function endpointOf(value: unknown): Endpoint | undefined {
  if (value === undefined) return undefined;
  const match = /^(?:\[([^\]]+)\]|([^:[\]]+)):(\d{1,5})$/.exec(String(value));
  const host = match?.[1] ?? match?.[2];
  if (host === undefined || Number(match?.[3]) > 65_535)
    throw new Error(`expected HOST:PORT but received ${String(value)}`);
  return { host, port: Number(match?.[3]) };
}

/** Aborts at Ctrl-C and SIGTERM. A second one ends the process at once. */
export function interruption(): AbortSignal {
  const controller = new AbortController();
  for (const name of ['SIGINT', 'SIGTERM'] as const)
    process.once(name, () => controller.abort(new Error(name)));
  return controller.signal;
}
