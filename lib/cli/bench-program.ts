/** `rdma-migrate bench` in the tree of commands. */
import { type Command, Option } from 'commander';
import type { Measure } from '../bench/plan.ts';
import type { ProviderChoice } from '../transport/provider.ts';
import {
  collectPlot,
  parseChannels,
  parseDepths,
  parseDirtyRates,
  parseMaxRam,
  parseMeasures,
  parsePercents,
  parsePort,
  parseQueuePairs,
  parseRam,
  parseRoundBytes,
  parseRoundSeconds,
  parseRounds,
  parseSizes,
  parseSwitches,
} from './bench-options.ts';
import type { OutputOptions } from './output.ts';
import { type WebOptions, withWeb } from './web.ts';

export interface BenchOptions extends OutputOptions, WebOptions {
  readonly listen?: string;
  readonly once?: boolean;
  readonly migrationPort?: number;
  /** Bytes. */
  readonly maxRam?: number;
  readonly provider: ProviderChoice;
  readonly measure?: readonly Measure[];
  /** Bytes. */
  readonly sizes?: readonly number[];
  readonly depth?: readonly number[];
  readonly queuePairs?: readonly number[];
  readonly crc?: readonly boolean[];
  readonly rounds?: number;
  readonly seconds?: number;
  readonly bytes?: number;
  readonly ram?: readonly number[];
  /** Percent. */
  readonly zero?: readonly number[];
  /** Bytes per second. */
  readonly dirtyRate?: readonly number[];
  readonly pinAll?: readonly boolean[];
  readonly channels?: readonly number[];
  readonly plot?: readonly string[];
  readonly from?: string;
}

const EXAMPLES = `
Examples:
  rdma-migrate bench                                     both ends here, everything
  rdma-migrate bench --listen rdma:0.0.0.0:4444          on one host, until Ctrl-C
  rdma-migrate bench rdma:host:4444 --plot host.svg      on the other
  rdma-migrate bench --measure write --sizes 4K-4M --crc off,on --depth 16,128
  rdma-migrate bench --measure migration --ram 2G --zero 0,50 --dirty-rate 0,100M --channels 1,2,4
  rdma-migrate bench --json > today.json; rdma-migrate bench --from today.json --plot today.png

Lists make every combination of their values. A size is as QEMU writes it: 4K, 1M, 1.5G. What the columns mean is in docs/bench.md.`;

export function addBench(
  program: Command,
  action: (uri: string | undefined, options: BenchOptions) => Promise<void>,
): Command {
  const command = withWeb(program.command('bench'))
    .summary('measure throughput, latency and whole migrations')
    .description(
      'Measures WRITE, READ and SEND throughput, latency and whole migrations between two hosts, or between two processes of this one, with what ' +
        'they cost in processor time at both ends.',
    )
    .argument('[uri]', 'where the other end listens, such as rdma:host:4444; without it both ends are here');
  addListening(command);
  addWhat(command);
  addMigrations(command);
  addHow(command);
  return command.addHelpText('after', EXAMPLES).action(action);
}

function addListening(command: Command): void {
  command
    .addOption(
      new Option(
        '--listen <uri>',
        'be the other end: serve one client after the other until Ctrl-C, such as rdma:0.0.0.0:4444',
      ),
    )
    .option('--once', 'with --listen: end when the first client that has asked for something has left')
    .option(
      '--migration-port <port>',
      'with --listen: where migrations come in (default: any free port)',
      parsePort,
    )
    .option(
      '--max-ram <size>',
      'with --listen: the largest VM that a client may move here (default: the memory that is available then, less 512M)',
      parseMaxRam,
    );
}

function addWhat(command: Command): void {
  command
    .option(
      '--measure <list>',
      'write, read, send (throughput), latency (of each) and migration (default: all)',
      parseMeasures,
    )
    .option(
      '--sizes <list>',
      'of messages, or a range such as 4K-4M (default 4K,16K,64K,256K,1M,4M)',
      parseSizes,
    )
    .option('--depth <list>', 'messages under way on each queue pair, 1 to 4096 (default 64)', parseDepths)
    .option('--queue-pairs <list>', 'side by side, 1 to 64 (default 1)', parseQueuePairs)
    .option('--crc <list>', 'CRC32C on the wire (iwarp): off, on or off,on (default off)', parseSwitches);
}

function addMigrations(command: Command): void {
  command
    .option('--ram <list>', 'of the VM that is moved (default 1G)', parseRam)
    .option('--zero <list>', 'percent of its pages that are zero (default 0)', parsePercents)
    .option(
      '--dirty-rate <list>',
      'bytes per second that its guest writes meanwhile (default 0)',
      parseDirtyRates,
    )
    .option('--pin-all <list>', "QEMU's rdma-pin-all: off, on or off,on (default off,on)", parseSwitches)
    .option(
      '--channels <list>',
      "QEMU's multifd-channels, 1 to 16 (default: the provider's own)",
      parseChannels,
    );
}

function addHow(command: Command): void {
  command
    .addOption(
      new Option('--provider <name>', 'what carries it: an RDMA device (verbs) or software (iwarp)')
        .choices(['auto', 'verbs', 'iwarp'])
        .default('auto'),
    )
    .option('--rounds <number>', 'of each measurement, in turn, 1 to 1000 (default 5)', parseRounds)
    .addOption(
      new Option('--seconds <time>', 'of a round of messages (default 0.5)')
        .argParser(parseRoundSeconds)
        .conflicts('bytes'),
    )
    .option('--bytes <size>', 'of a round of messages, instead of a time', parseRoundBytes)
    .option('--plot <file>', 'draw the result into an .svg or a .png (repeatable)', collectPlot)
    .option('--from <file>', 'measure nothing: show and draw what --json has written');
}
