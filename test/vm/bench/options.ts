/** The command line of `npm run bench:vm`. */
import { resolve } from 'node:path';
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { BenchError, EXIT } from '../failures.ts';

export interface BenchVmOptions {
  readonly device: 'siw' | 'rxe';
  /** Of each way of moving RAM, after one that does not count. */
  readonly rounds: number;
  /** Of the VM, not zero. */
  readonly mib: number;
  /** Beside QEMU's own migrations. */
  readonly qemu: boolean;
  readonly json: boolean;
  /** The folder of another build of this package, measured in the same rounds. */
  readonly beside?: string;
}

/** Where the VM's memory and the time of an emulated machine end. */
const MOST = { rounds: 100, mib: 512 } as const;

const whole =
  (least: number, most: number) =>
  (text: string): number => {
    const value = Number(text);
    if (/^\d{1,6}$/.test(text) && value >= least && value <= most) return value;
    throw new InvalidArgumentError(`expected a number from ${least} to ${most}.`);
  };

function program(): Command {
  return new Command('npm run bench:vm --')
    .description(
      'How fast RAM moves over an RDMA device of the test VM, beside ib_write_bw and two QEMUs (docs/testing.md).',
    )
    .addOption(
      new Option('--device <name>', 'iWARP (siw) or RoCEv2 (rxe)').choices(['siw', 'rxe']).default('siw'),
    )
    .option('--rounds <count>', 'how often each is measured, in turn', whole(1, MOST.rounds), 5)
    .option('--mib <count>', 'MiB of data in the VM, a multiple of 8', whole(8, MOST.mib), 112)
    .option('--no-qemu', 'without QEMU, which takes most of the time')
    .option('--beside <folder>', 'the folder of another build, measured in the same rounds')
    .option('--json', 'every sample, as one line of JSON')
    .exitOverride();
}

/** @throws BenchError with what commander said; exit code 0 after `--help` */
export function benchVmOptions(argv: readonly string[]): BenchVmOptions {
  const cli = program();
  try {
    cli.parse(argv, { from: 'user' });
  } catch (cause) {
    if (!(cause instanceof CommanderError)) throw cause;
    throw new BenchError(cause.exitCode === 0 ? EXIT.ok : EXIT.usage, '', { cause });
  }
  const { device, rounds, mib, qemu, json = false, beside } = cli.opts();
  if (mib % 8 !== 0) throw new BenchError(EXIT.usage, `--mib ${mib} is no multiple of 8`);
  return { device, rounds, mib, qemu, json, ...(beside !== undefined && { beside: resolve(beside) }) };
}
