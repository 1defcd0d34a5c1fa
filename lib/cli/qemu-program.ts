/** The commands of `rdma-migrate qemu`: their arguments and options. */
import { type Command, Option } from 'commander';
import {
  collectNetwork,
  parseCount,
  parseMilliseconds,
  parsePath,
  parseSeconds,
  parseSize,
} from './arguments.ts';
import { type ConnectOptions, withConnect } from './connect-options.ts';
import { EXIT_CODE_HELP } from './exit-codes.ts';
import type { EndOptions, OutputOptions } from './program.ts';
import { withWeb } from './web.ts';

type QemuEnd = Omit<EndOptions, 'commit' | 'ramFile'>;

export interface QemuMoveOptions extends QemuEnd, ConnectOptions {
  readonly qmp: string;
  readonly pid?: number;
  readonly tracker: string;
  readonly pinAll?: boolean;
  /** Bytes per second. */
  readonly maxBandwidth?: bigint;
  readonly availSwitchoverBandwidth?: bigint;
  /** Milliseconds, as in QEMU. */
  readonly downtimeLimit?: number;
  /** Milliseconds. */
  readonly timeLimit?: number;
  readonly onTimeLimit?: 'cancel' | 'stop-and-copy';
  readonly autoConverge?: boolean;
  readonly verify?: boolean;
  readonly tlsHostname?: string;
  /** Milliseconds. */
  readonly settleTimeout: number;
}

export interface QemuReceiveOptions extends QemuEnd {
  readonly qmp?: string;
  readonly pid?: number;
  readonly paused?: boolean;
  readonly stateDir?: string;
  readonly allow?: readonly string[];
  /** Milliseconds. */
  readonly timeout?: number;
  readonly maxRam?: bigint;
  /** Milliseconds. */
  readonly statusTimeout: number;
}

export interface QemuStatusOptions
  extends OutputOptions,
    Pick<QemuEnd, 'provider' | 'tlsCreds' | 'tlsPskName' | 'tlsAuthz'> {
  readonly stateDir?: string;
  readonly tlsHostname?: string;
}

export interface QemuActions {
  qemuMove(uri: string, options: QemuMoveOptions): Promise<void>;
  qemuReceive(uri: string, command: readonly string[], options: QemuReceiveOptions): Promise<void>;
  qemuStatus(id: string, uri: string | undefined, options: QemuStatusOptions): Promise<void>;
}

/** How options of other commands are added. */
export interface SharedOptions {
  readonly withEnd: (command: Command) => Command;
  readonly withOutput: (command: Command) => Command;
  readonly withTls: (command: Command) => Command;
}

const HELP = `
Both QEMUs have the same machine, CPU, memory and devices, and RAM that others can map:
  -object memory-backend-file,id=pc.ram,size=SIZE,mem-path=/dev/shm/NAME,share=on -machine memory-backend=pc.ram
docs/qemu-live.md has examples, disks, and what to do when a host fails.`;

export function addQemu(program: Command, actions: QemuActions, shared: SharedOptions): void {
  const qemu = program
    .command('qemu')
    .summary('move the running guest of a stock QEMU into another one')
    .description(
      'Moves the running guest of a stock QEMU into another one. QEMU itself needs no rdma: and no RDMA device.',
    );
  for (const command of [
    addMove(qemu, actions, shared),
    addReceive(qemu, actions, shared),
    addStatus(qemu, actions, shared),
  ])
    shared.withOutput(command).addHelpText('after', `${HELP}\n${EXIT_CODE_HELP}`);
}

function addMove(qemu: Command, actions: QemuActions, { withEnd }: SharedOptions): Command {
  const command = qemu
    .command('move')
    .summary('move a running guest to where qemu receive waits')
    .description(
      'Moves the guest of a QEMU of this host, while it runs, to where rdma-migrate qemu receive waits. Ctrl-C cancels: the guest runs on here.',
    )
    .argument('<uri>', 'where the destination listens, such as rdma:host:4444')
    .requiredOption('--qmp <path>', "QEMU's QMP socket (-qmp unix:PATH,server=on,wait=off)", parsePath)
    .addOption(
      new Option(
        '--tracker <kind>',
        'how writes of the guest are detected (default: soft-dirty where the kernel has it, else hash)',
      )
        .choices(['auto', 'soft-dirty', 'hash', 'none'])
        .default('auto'),
    )
    .option(
      '--downtime-limit <ms>',
      'how long the guest may stand still, milliseconds (default 300)',
      parseMilliseconds,
    )
    .option(
      '--time-limit <seconds>',
      'give up, or stop the guest, when it cannot be stopped by then (default: none)',
      parseSeconds,
    )
    .addOption(
      new Option('--on-time-limit <what>', 'what happens then (default cancel)').choices([
        'cancel',
        'stop-and-copy',
      ]),
    )
    .option('--auto-converge', 'slow the guest down when it writes too fast')
    .option(
      '--max-bandwidth <size>',
      'bytes per second while the guest runs, such as 500M; 0: no limit (default)',
      parseSize,
    )
    .option(
      '--avail-switchover-bandwidth <size>',
      'bytes per second to reckon with once the guest stands (default: as measured)',
      parseSize,
    )
    .addOption(
      new Option('--pin-all', "register all RAM at once at the destination (QEMU's rdma-pin-all)").conflicts(
        'pinBudget',
      ),
    )
    .option(
      '--verify',
      'compare a digest of all RAM on both sides before the commit, while the guest stands still',
    )
    .option(
      '--tls-hostname <name>',
      "whom the destination's certificate must name (default: the host of the URI)",
    )
    .option(
      '--settle-timeout <seconds>',
      'how long to ask the destination who has the VM, when its answer was lost (default 60)',
      parseSeconds,
      60_000,
    )
    .option('--pid <pid>', 'the process of QEMU, where its socket does not tell', parseCount)
    .action((uri: string, options: QemuMoveOptions) => actions.qemuMove(uri, options));
  return withWeb(withEnd(withConnect(command)));
}

function addReceive(qemu: Command, actions: QemuActions, { withEnd }: SharedOptions): Command {
  const command = qemu
    .command('receive')
    .summary('wait for a running guest, in a QEMU that this starts or that waits')
    .description(
      'Waits for one running guest and lets it go on in a QEMU: one that this starts (-- qemu-system-x86_64 ..., with the options of the source; what waiting ' +
        'takes is added), or one that waits with -incoming defer (--qmp). If that fails, the QEMU is ended and the guest goes on at the source.',
    )
    .argument('<uri>', 'where to listen, such as rdma:0.0.0.0:4444; port 0 takes any free port')
    .argument('[command...]', 'QEMU and its options, after --')
    .option('--qmp <path>', 'the QMP socket of a QEMU that waits already (-incoming defer)', parsePath)
    .option('--paused', 'leave the guest stopped when it has arrived')
    .option(
      '--state-dir <dir>',
      'where sockets are and what became of migrations (default: /run/rdma-migrate, or in XDG_RUNTIME_DIR)',
      parsePath,
    )
    .option(
      '--allow <network>',
      'who may connect: an address or a network, such as 192.0.2.0/24 (repeatable; default: everybody)',
      collectNetwork,
    )
    .option(
      '--max-ram <size>',
      'the most RAM that the VM may have, such as 64G (default: the memory that is available here)',
      parseSize,
    )
    .option('--timeout <seconds>', 'give up when no source has begun by then', parseSeconds)
    .option(
      '--status-timeout <seconds>',
      'how long a source that lost the answer may ask for it (default 60)',
      parseSeconds,
      60_000,
    )
    .option('--pid <pid>', 'the process of the waiting QEMU, where its socket does not tell', parseCount)
    .action((uri: string, given: readonly string[], options: QemuReceiveOptions) =>
      actions.qemuReceive(uri, given, options),
    );
  return withWeb(withEnd(command));
}

function addStatus(qemu: Command, actions: QemuActions, { withTls }: SharedOptions): Command {
  const command = qemu
    .command('status')
    .summary('ask what became of a migration')
    .description(
      'Says what became of a migration: at the destination from what is written down there, or over the network while qemu receive still answers.',
    )
    .argument('<id>', 'the id of the migration, as both ends print it')
    .argument('[uri]', 'the destination, such as rdma:host:4444 (default: this host)')
    .option('--state-dir <dir>', 'that of qemu receive', parsePath)
    .option(
      '--tls-hostname <name>',
      "whom the destination's certificate must name (default: the host of the URI)",
    )
    .action((id: string, uri: string | undefined, options: QemuStatusOptions) =>
      actions.qemuStatus(id, uri, options),
    );
  return withTls(command);
}
