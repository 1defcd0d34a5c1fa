import { parseArgs } from 'node:util';
import type { TrackerChoice } from 'rdma-migrate';
import type { Traffic } from './layout.ts';
import type { MoveWay } from './vm.ts';

const WRONG_USAGE = 2;
const USAGE = `npm run demo:program -- [options]
Two programs talk over RDMA. One of them moves from process to process meanwhile, with its memory and its connections; the other one knows nothing of that.

Traffic (as perftest's):
  --verb NAME            send, write or read (default send)
  --size BYTES           of a message, a multiple of 64 (default 4096)
  --depth N              messages under way on each queue pair (default 16)
  --queue-pairs N        (default 4)
  --from WHO             who sends, writes or reads: program (which moves), partner or both
                         (default program)
  --iterations N         messages of each queue pair; 0: until --seconds are over (default 0)
  --seconds N            (default 5)

Moves:
  --moves N              (default 2)
  --every MS             between them (default 500)
  --no-ahead             peers connect to the new place in the pause, and not before it
  --tracker NAME         auto, write-protect, soft-dirty or hash (default hash)
  --downtime-limit MS    (default 300)
  --drain MS             so long what is under way may arrive (default 1000)
  --longest-pause MS     so long the partner waits (default 10000)
  --onto-partner         places listen at the partner's own address; else each has one of its own

Output:
  --svg FILE             draws the timeline
  --json                 one line of JSON
  --help`;

export interface Options {
  readonly traffic: Traffic;
  readonly moves: number;
  readonly everyMs: number;
  readonly way: MoveWay;
  readonly tracker: TrackerChoice;
  readonly downtimeLimitMs: number;
  readonly drainMs: number;
  readonly longestPauseMs: number;
  readonly ontoPartner: boolean;
  readonly svg: string | undefined;
  readonly json: boolean;
}

const DEFAULTS = {
  size: '4096',
  depth: '16',
  'queue-pairs': '4',
  iterations: '0',
  seconds: '5',
  moves: '2',
  every: '500',
  'downtime-limit': '300',
  drain: '1000',
  'longest-pause': '10000',
} as const;

/** Undefined when there is nothing to run: the usage was asked for, or the arguments are wrong, which the exit code then says. */
export function readOptions(args: readonly string[]): Options | undefined {
  try {
    const options = parse(args);
    if (options !== undefined) return options;
    console.log(USAGE);
  } catch (error) {
    console.error(`error: ${(error as Error).message}\n\n${USAGE}`);
    process.exitCode = WRONG_USAGE;
  }
  return undefined;
}

function parse(args: readonly string[]): Options | undefined {
  const text = { type: 'string' } as const;
  const flag = { type: 'boolean', default: false } as const;
  const { values } = parseArgs({
    args: [...args],
    options: {
      verb: { ...text, default: 'send' },
      ...(Object.fromEntries(
        Object.entries(DEFAULTS).map(([name, value]) => [name, { ...text, default: value }]),
      ) as Record<keyof typeof DEFAULTS, { type: 'string'; default: string }>),
      from: { ...text, default: 'program' },
      'no-ahead': flag,
      tracker: { ...text, default: 'hash' },
      'onto-partner': flag,
      svg: text,
      json: flag,
      help: flag,
    },
  });
  if (values.help) return undefined;
  const number = (name: keyof typeof DEFAULTS, least: number, most: number): number => {
    const value = Number(values[name]);
    if (Number.isInteger(value) && value >= least && value <= most) return value;
    throw new Error(`--${name} is a whole number from ${least} to ${most}, not '${values[name]}'`);
  };
  const size = number('size', 64, 2 ** 24);
  if (size % 64 !== 0) throw new Error(`--size is a multiple of 64, not ${size}`);
  return {
    traffic: {
      verb: word('verb', values.verb, ['send', 'write', 'read'] as const),
      size,
      depth: number('depth', 1, 1024),
      queuePairs: number('queue-pairs', 1, 8192),
      from: word('from', values.from, ['program', 'partner', 'both'] as const),
      iterations: number('iterations', 0, 2 ** 31),
      seconds: number('seconds', 1, 3600),
    },
    moves: number('moves', 0, 1000),
    everyMs: number('every', 0, 60_000),
    way: values['no-ahead'] ? 'in-pause' : 'ahead',
    tracker: word('tracker', values.tracker, ['auto', 'write-protect', 'soft-dirty', 'hash'] as const),
    downtimeLimitMs: number('downtime-limit', 1, 60_000),
    drainMs: number('drain', 1, 60_000),
    longestPauseMs: number('longest-pause', 1, 86_400_000),
    ontoPartner: values['onto-partner'],
    svg: values.svg,
    json: values.json,
  };
}

function word<T extends string>(name: string, value: string, words: readonly T[]): T {
  const found = words.find((each) => each === value);
  if (found === undefined) throw new Error(`--${name} is one of ${words.join(', ')}, not '${value}'`);
  return found;
}
