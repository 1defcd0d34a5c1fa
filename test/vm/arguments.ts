/** The command line of `npm run vm`. */
import { Command, CommanderError, InvalidArgumentError, Option } from 'commander';
import { BenchError, EXIT } from './failures.ts';

export type Device = 'rxe' | 'siw' | 'none';

/** A TCP port of 127.0.0.1 outside that leads to one inside. */
export interface Forward {
  readonly host: number;
  readonly guest: number;
}

export interface BenchArguments {
  readonly device: Device;
  readonly memoryMiB: number;
  readonly forward: readonly Forward[];
  readonly unprivileged: boolean;
  readonly timeoutMs: number;
  readonly verbose: boolean;
  readonly command: readonly string[];
}

const MIN_MEMORY_MIB = 512;
const MAX_TIMEOUT_S = 2_000_000;

/** `4G`, `512M`: MiB. */
export function parseMemory(text: string): number {
  const [, digits = '', unit] = /^(\d{1,6})([MG])$/.exec(text) ?? [];
  const size = Number(digits) * (unit === 'G' ? 1024 : 1);
  if (size < MIN_MEMORY_MIB) {
    throw new InvalidArgumentError(`expected such as 4G or 2048M, at least ${MIN_MEMORY_MIB}M.`);
  }
  return size;
}

function parsePort(text: string | undefined): number {
  const port = /^\d{1,5}$/.test(text ?? '') ? Number(text) : 0;
  if (port < 1 || port > 65_535)
    throw new InvalidArgumentError('expected HOSTPORT:GUESTPORT, such as 14444:4444.');
  return port;
}

function collectForward(text: string, before: readonly Forward[] = []): Forward[] {
  const [host, guest, ...rest] = text.split(':');
  return [...before, { host: parsePort(host), guest: parsePort(rest.length > 0 ? undefined : guest) }];
}

function parseTimeout(text: string): number {
  const seconds = Number(text);
  if (!(seconds > 0 && seconds <= MAX_TIMEOUT_S))
    throw new InvalidArgumentError('expected seconds, more than 0.');
  return seconds * 1000;
}

function program(): Command {
  return new Command('npm run vm --')
    .description('Runs a command on this checkout in a VM whose kernel has an RDMA device (docs/testing.md).')
    .addOption(
      new Option('--device <name>', 'iWARP (siw), RoCEv2 (rxe) or none')
        .choices(['siw', 'rxe', 'none'])
        .default('siw'),
    )
    .option('--memory <size>', "the VM's RAM, such as 4G or 2048M", parseMemory, 4096)
    .option(
      '--forward <host:guest>',
      'lead a TCP port of 127.0.0.1 to one in the VM (repeatable)',
      collectForward,
    )
    .option('--unprivileged', 'run the command as nobody, with 8 MiB of lockable memory')
    .option('--timeout <seconds>', 'end the VM after this time, with exit code 124', parseTimeout, 600_000)
    .option('--verbose', "show the VM's console on stderr")
    .argument('<command...>', 'what to run; `sh -c "..."` for pipes and the like')
    .passThroughOptions()
    .exitOverride();
}

/** @throws BenchError with what commander said; exit code 0 after `--help` */
export function parseBenchArguments(argv: readonly string[]): BenchArguments {
  const cli = program();
  try {
    cli.parse(argv, { from: 'user' });
  } catch (cause) {
    if (!(cause instanceof CommanderError)) throw cause;
    throw new BenchError(cause.exitCode === 0 ? EXIT.ok : EXIT.usage, '', { cause });
  }
  const options = cli.opts();
  return {
    device: options.device,
    memoryMiB: options.memory,
    forward: options.forward ?? [],
    unprivileged: options.unprivileged ?? false,
    timeoutMs: options.timeout,
    verbose: options.verbose ?? false,
    command: cli.args,
  };
}
