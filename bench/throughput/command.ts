/** The options of `npm run bench`. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { benchCommand, listOf, oneOf, wholeNumber } from '../support/arguments.ts';
import type { Channels } from './ours.ts';
import { GROUPS, type GroupName, type Plan } from './plan.ts';

export interface Options extends Plan {
  readonly rounds: number;
  readonly targets?: boolean;
  readonly json?: string;
}

const MOST_MIB = 2 ** 20;
const MOST_CHANNELS = 16;

function channels(text: string): Channels {
  return text === 'default' ? text : wholeNumber(1, MOST_CHANNELS)(text);
}

/** Each a multiple of the least: the source's blocks are all one file. */
function sizes(text: string): number[] {
  const all = listOf(wholeNumber(4, MOST_MIB))(text).sort((one, other) => one - other);
  if (all.every((mib) => mib % (all[0] as number) === 0)) return all;
  throw new InvalidArgumentError('Expected multiples of the least.');
}

export function throughputCommand(): Command {
  const mib = wholeNumber(4, MOST_MIB);
  return benchCommand(
    'bench',
    'Migrations over the software RNIC, beside memcpy, first touch, iperf3, a raw socket loop and stock QEMU.',
  )
    .addOption(
      new Option('--only <groups>', `what to measure, of ${GROUPS.join(',')}`)
        .argParser(listOf(oneOf(GROUPS)))
        .default(['touched', 'fresh', 'qemu'] satisfies GroupName[], 'touched,fresh,qemu'),
    )
    .option('--targets', 'measure every group, and say of each target whether it is met (about 10 minutes)')
    .option(
      '--rounds <n>',
      'how often each row is measured, after one round that warms up; 0: that one alone',
      wholeNumber(0, 1000),
      5,
    )
    .option('--mib <n>', 'touched: RAM to move', mib, 1024)
    .addOption(
      new Option('--channels <list>', 'touched, fresh, tls: queue pairs, 1 to 16, or default')
        .argParser(listOf(channels))
        .default(['default', 1, 4] satisfies Channels[], 'default,1,4'),
    )
    .option('--fresh-mib <n>', 'fresh, qemu, tls: RAM to move', mib, 2000)
    .addOption(
      new Option('--multifd <list>', 'qemu, tls: multifd channels')
        .argParser(listOf(wholeNumber(1, 255)))
        .default([2, 4], '2,4'),
    )
    .addOption(
      new Option('--flat-mib <list>', 'flat: sizes, multiples of the least')
        .argParser(sizes)
        .default([1024, 2048, 4096, 8192, 16_384], '1024,2048,4096,8192,16384'),
    )
    .option('--sparse-gib <n>', 'sparse: size of the VM', wholeNumber(1, 1024), 16)
    .option('--sparse-mib <n>', 'sparse: RAM in use, in up to 4096 pieces', wholeNumber(16, MOST_MIB), 256)
    .option('--beside <folder>', 'touched: another build of this package, measured in the same rounds')
    .option('--json <file>', 'write what was measured to a file');
}
