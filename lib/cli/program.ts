/** The tree of commands, arguments and options. It loads nothing that needs the addon. */
import { Command, Option } from 'commander';
import type { ProviderChoice } from '../transport/provider.ts';
import {
  collectIgnored,
  collectName,
  collectNetwork,
  collectPath,
  parseCount,
  parsePath,
  parseSeconds,
  parseSecondsOrOff,
  parseSize,
} from './arguments.ts';
import { addBench, type BenchOptions } from './bench-program.ts';
import { addCompletion } from './completion-program.ts';
import { type ConnectOptions, withConnect } from './connect-options.ts';
import { EXIT_CODE_HELP } from './exit-codes.ts';
import { addKeepOptions, type KeepOptions } from './keep/program.ts';
import type { OutputOptions } from './output.ts';
import { addQemu, type QemuActions } from './qemu-program.ts';
import { addTunnel, type TunnelCommandOptions } from './tunnel-program.ts';
import { addWatch, type WatchOptions } from './watch-program.ts';
import { type WebOptions, withWeb } from './web.ts';

export type { BenchOptions } from './bench-program.ts';
export type { OutputOptions } from './output.ts';

/** Options of both ends of a migration. */
export interface EndOptions extends OutputOptions, WebOptions {
  readonly provider: ProviderChoice;
  readonly commit: 'auto' | 'require' | 'off';
  readonly crc?: boolean;
  /** Bytes of RAM registered at one time. */
  readonly pinBudget?: bigint;
  readonly onPinLimit?: 'lower' | 'fail';
  readonly channels?: number;
  /** Milliseconds. */
  readonly responseTimeout?: number;
  readonly commitTimeout?: number;
  readonly totalTimeout?: number;
  readonly resumeWindow?: number;
  /** Absolute paths by block name. */
  readonly ramFile?: Readonly<Record<string, string>>;
  /** An absolute path. */
  readonly tlsCreds?: string;
  readonly tlsPskName?: string;
  readonly tlsAuthz?: readonly string[];
}

export interface ReceiveOptions extends EndOptions, KeepOptions {
  /** This or `keep`. */
  readonly image?: string;
  readonly digests: boolean;
  /** Addresses and networks. */
  readonly allow?: readonly string[];
  /** Milliseconds. */
  readonly timeout?: number;
  /** Bytes. */
  readonly maxRam?: bigint;
  readonly connectionsPerSecond?: number;
  /** Milliseconds. */
  readonly connectTimeout?: number;
}

export interface SendOptions extends EndOptions, ConnectOptions {
  readonly pinAll?: boolean;
  /** Bytes per second. */
  readonly maxBandwidth?: bigint;
  readonly verify?: boolean;
  readonly continue?: boolean;
  readonly again?: boolean;
  readonly tlsHostname?: string;
}

export interface VerifyOptions extends OutputOptions {
  readonly ramFile?: Readonly<Record<string, string>>;
}

export interface InspectOptions extends OutputOptions {
  readonly ramFile?: Readonly<Record<string, string>>;
}

export interface ToQemuOptions extends OutputOptions {
  /** Guest-physical addresses by block name; undefined: the image knows it. */
  readonly ignoreShared?: Readonly<Record<string, bigint | undefined>>;
  readonly ramFile?: Readonly<Record<string, string>>;
}

export interface FromQemuOptions extends OutputOptions {
  readonly sharedRam?: Readonly<Record<string, string>>;
  readonly ramFile?: Readonly<Record<string, string>>;
  readonly acceptUnproven?: boolean;
  readonly digests: boolean;
}

export interface CleanOptions extends OutputOptions {
  readonly yes?: boolean;
  readonly dryRun?: boolean;
}

export interface DoctorOptions extends OutputOptions {
  /** An absolute path. */
  readonly tlsCreds?: string;
  readonly tlsHostname?: string;
}

/** What the commands do. */
export interface Actions extends QemuActions {
  receive(uri: string, options: ReceiveOptions): Promise<void>;
  send(image: string, uri: string, options: SendOptions): Promise<void>;
  inspect(image: string, options: InspectOptions): Promise<void>;
  verify(image: string, options: VerifyOptions): Promise<void>;
  toQemu(image: string, file: string, options: ToQemuOptions): Promise<void>;
  fromQemu(file: string, image: string, options: FromQemuOptions): Promise<void>;
  clean(folder: string, options: CleanOptions): Promise<void>;
  doctor(options: DoctorOptions): Promise<void>;
  bench(uri: string | undefined, options: BenchOptions): Promise<void>;
  /** Prints a script for a shell. */
  completion(script: string): void;
  tunnel(uri: string, options: TunnelCommandOptions): Promise<void>;
  watch(address: string, options: WatchOptions): Promise<void>;
}

const RAM_FILE_HELP = 'where a RAM block outside the image is: only a file named here is read (repeatable)';

const NO_DIGESTS_HELP =
  'keep no digests in the image: saves a look at all of its RAM, and image verify has nothing to compare with';

const URI_HELP = `
URIs are QEMU's: rdma:host:port, with IPv6 addresses in brackets: rdma:[2001:db8::7]:4444.
Sizes: 4096 (bytes), 64K, 500M, 1.5G, in units of 1024. Times: 2 or 2s, 300ms, 5m, 1h.`;

/** The command. Usage errors and --help throw a CommanderError instead of ending the process. */
export function buildProgram(actions: Actions, version: string): Command {
  const program = new Command('rdma-migrate')
    .description(
      "Move a virtual machine's RAM and device state to another host over RDMA, as QEMU's rdma: migration does.",
    )
    .version(version)
    .exitOverride()
    // Usage errors are thrown; whoever catches them says them, in the form of all other errors.
    .configureOutput({ outputError: () => undefined })
    .addHelpText('after', EXIT_CODE_HELP);
  addReceive(program, actions);
  addSend(program, actions);
  const tunnel = addTunnel(program, (uri, options) => actions.tunnel(uri, options));
  withOutput(tunnel).addHelpText('after', `${URI_HELP}\n${EXIT_CODE_HELP}`);
  addImage(program, actions);
  addQemu(program, actions, { withEnd: withPeer, withOutput, withTls });
  const watch = addWatch(program, (address, options) => actions.watch(address, options));
  withOutput(watch).addHelpText('after', EXIT_CODE_HELP);
  addDoctor(program, actions);
  const bench = addBench(program, (uri, options) => actions.bench(uri, options));
  withOutput(bench).addHelpText('after', EXIT_CODE_HELP);
  addCompletion(program, (script) => actions.completion(script));
  return program;
}

function addReceive(program: Command, actions: Actions): void {
  const command = program
    .command('receive')
    .summary('wait for a VM and keep it as an image')
    .description(
      'Waits for one VM, from QEMU (migrate rdma:host:port) or from rdma-migrate send, and keeps it as an image; with --keep for one after another, ' +
        'and many at once, each of which becomes an image in a folder.',
    )
    .argument('<uri>', 'where to listen, such as rdma:0.0.0.0:4444; port 0 takes any free port')
    .option('--image <dir>', 'the image to create; it must not exist')
    .option('--ram-file <block=path>', 'keep a RAM block in a new file of its own (repeatable)', collectPath)
    .option('--no-digests', NO_DIGESTS_HELP)
    .option(
      '--allow <network>',
      'who may connect: an address or a network, such as 192.0.2.0/24 (repeatable; default: everybody)',
      collectNetwork,
    )
    .option(
      '--max-ram <size>',
      'the most RAM that the VM, or with --keep all that are under way, may have, such as 64G (default: the memory that is available here)',
      parseSize,
    )
    .option(
      '--connections-per-second <number>',
      'how many connections of one address are looked at each second (default 100)',
      parseCount,
    )
    .option(
      '--connect-timeout <time>',
      'how long a source may take to connect, and as long again for TLS (default 10 s, or less with a shorter --response-timeout)',
      parseSeconds,
    )
    .option('--timeout <time>', 'give up when no source has begun by then', parseSeconds)
    .action((uri: string, options: ReceiveOptions) => actions.receive(uri, options));
  withOutput(withWeb(withEnd(addKeepOptions(command)))).addHelpText(
    'after',
    `${URI_HELP}\n${EXIT_CODE_HELP}`,
  );
}

function addSend(program: Command, actions: Actions): void {
  const command = program
    .command('send')
    .summary('send an image to a waiting destination')
    .description(
      'Sends an image to a waiting destination: QEMU with -incoming rdma:host:port, or rdma-migrate receive.',
    )
    .argument('<image>', 'the image to send; it is marked as sent')
    .argument('<uri>', 'where the destination listens, such as rdma:host:4444')
    .addOption(
      new Option('--pin-all', "register all RAM at once at the destination (QEMU's rdma-pin-all)").conflicts(
        'pinBudget',
      ),
    )
    .option(
      '--max-bandwidth <size>',
      'bytes per second, such as 500M or 1.5G; 0: no limit (default)',
      parseSize,
    )
    .option(
      '--tls-hostname <name>',
      "whom the destination's certificate must name (default: the host of the URI)",
    )
    .option('--again', 'send an image that was sent before: its VM may then be at two hosts')
    .option(
      '--continue',
      'go on from what a receive that died has left at the destination: only what differs there is sent',
    )
    .option('--verify', 'compare a digest of all RAM on both sides before the commit')
    .option('--ram-file <block=path>', RAM_FILE_HELP, collectPath)
    .action((image: string, uri: string, options: SendOptions) => actions.send(image, uri, options));
  withOutput(withWeb(withEnd(withConnect(command)))).addHelpText('after', `${URI_HELP}\n${EXIT_CODE_HELP}`);
}

function addImage(program: Command, actions: Actions): void {
  const image = program
    .command('image')
    .summary('look at images, verify and convert them, clear away unfinished ones')
    .description('Looks at images, verifies and converts them, and clears away unfinished ones.');
  const inspect = image
    .command('inspect')
    .description('Shows what an image holds.')
    .argument('<image>')
    .option('--ram-file <block=path>', RAM_FILE_HELP, collectPath)
    .action((path: string, options: InspectOptions) => actions.inspect(path, options));
  const verify = image
    .command('verify')
    .description(
      'Reads all of an image and compares it with the digests that were kept when it was received. Ends with 0 only if all of it was compared and is the same.',
    )
    .argument('<image>')
    .option('--ram-file <block=path>', RAM_FILE_HELP, collectPath)
    .action((path: string, options: VerifyOptions) => actions.verify(path, options));
  const toQemu = image
    .command('to-qemu')
    .description('Writes an image as a plain QEMU stream, which -incoming "exec:cat FILE" loads.')
    .argument('<image>')
    .argument('<file>', 'a new file, a FIFO, or - for stdout')
    .option(
      '--ignore-shared <block[=address]>',
      'leave out the pages of a block that QEMU maps itself (x-ignore-shared); its guest address if the image does not know it, 0x0 for pc.ram (repeatable)',
      collectIgnored,
    )
    .option('--ram-file <block=path>', RAM_FILE_HELP, collectPath)
    .action((path: string, file: string, options: ToQemuOptions) => actions.toQemu(path, file, options));
  const fromQemu = image
    .command('from-qemu')
    .description('Reads a plain QEMU stream (QMP migrate "exec:cat>FILE") into a new image.')
    .argument('<file>', 'a file, a FIFO, or - for stdin')
    .argument('<image>', 'the image to create; it must not exist')
    .option(
      '--shared-ram <block=path>',
      'the existing file of a block whose pages x-ignore-shared left out (repeatable)',
      collectPath,
    )
    .option('--ram-file <block=path>', 'keep a RAM block in a new file of its own (repeatable)', collectPath)
    .option('--no-digests', NO_DIGESTS_HELP)
    .option('--accept-unproven', 'take a stream that nothing proves to be whole (suppress-vmdesc=on)')
    .action((file: string, path: string, options: FromQemuOptions) => actions.fromQemu(file, path, options));
  const clean = image
    .command('clean')
    .description('Removes what killed receives and conversions left in a folder. Asks first.')
    .argument('[dir]', 'the folder that images are made in', '.')
    .addOption(new Option('-y, --yes', 'remove without asking').conflicts('dryRun'))
    .option('-n, --dry-run', 'only show what is there')
    .action((folder: string, options: CleanOptions) => actions.clean(folder, options));
  for (const command of [inspect, verify, toQemu, fromQemu, clean])
    withOutput(command).addHelpText('after', EXIT_CODE_HELP);
}

function addDoctor(program: Command, actions: Actions): void {
  const doctor = program
    .command('doctor')
    .summary('check this machine and say what is missing')
    .description(
      'Checks providers, devices, limits and kernel features, says what is missing and how to get it, and migrates a small VM through ' +
        '127.0.0.1 within this process. Ends with 0 when this machine can migrate over iWARP.',
    )
    .option('--tls-creds <dir>', 'look at these TLS credentials too', parsePath)
    .option('--tls-hostname <name>', "what the destination's certificate has to name")
    .action((options: DoctorOptions) => actions.doctor(options));
  withOutput(doctor).addHelpText('after', EXIT_CODE_HELP);
}

function withEnd(command: Command): Command {
  return withPeer(command).addOption(
    new Option(
      '--commit <mode>',
      'confirm that the VM has arrived: if the peer can, only with a peer that can, or never',
    )
      .choices(['auto', 'require', 'off'])
      .default('auto'),
  );
}

/** All but how it ends. */
function withPeer(command: Command): Command {
  return withTls(command)
    .option(
      '--channels <number>',
      "queue pairs that carry RAM side by side, 1 to 16, between two rdma-migrate (QEMU's multifd-channels)",
      parseCount,
    )
    .option('--crc', 'ask for CRC32C on the wire (iwarp), also of QEMU; two rdma-migrate have it anyway')
    .option('--no-crc', 'nothing checks what travels, unless the other end asks for it')
    .option(
      '--pin-budget <size>',
      'the most RAM to have registered, and with an RDMA device pinned, at one time, such as 64M; at least 2M',
      parseSize,
    )
    .addOption(
      new Option(
        '--on-pin-limit <what>',
        'where less can be pinned than is wanted: go on with a budget that fits (default), or fail before anything is sent',
      ).choices(['lower', 'fail']),
    )
    .option(
      '--response-timeout <time>',
      'the longest silence of the peer, and of the wire, also while connecting (default 60; connecting 10)',
      parseSeconds,
    )
    .option(
      '--commit-timeout <time>',
      'the longest wait at the end, while RAM is compared (--verify) and the VM is made durable (default 600)',
      parseSeconds,
    )
    .option(
      '--total-timeout <time>',
      'the longest time for all of the migration, however it goes on (default: none)',
      parseSeconds,
    )
    .option(
      '--resume-window <time>',
      'between two rdma-migrate on the software RNIC: when the link breaks, look for a new one for so long and go on; off ends the migration (default 10 s)',
      parseSecondsOrOff,
    );
}

/** Whom to reach, and how. */
function withTls(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--provider <name>',
        'what carries the migration: an RDMA device (verbs) or software (iwarp)',
      )
        .choices(['auto', 'verbs', 'iwarp'])
        .default('auto'),
    )
    .option(
      '--tls-creds <dir>',
      "protect the migration with TLS 1.3: a folder as QEMU's tls-creds-x509 or tls-creds-psk",
      parsePath,
    )
    .option(
      '--tls-authz <name>',
      'a name of a peer that may take part (repeatable; default: all with good credentials)',
      collectName,
    )
    .option('--tls-psk-name <name>', 'which key of keys.psk a source shows (default qemu)');
}

function withOutput(command: Command): Command {
  return command
    .option('--json', 'one JSON object per line on stdout')
    .addOption(new Option('-q, --quiet', 'print only errors and the address').conflicts('verbose'))
    .option('-v, --verbose', 'log to stderr what happens, with time, level and peer')
    .addOption(
      new Option(
        '--log-format <format>',
        'of what goes to stderr (default: json with --json, else text)',
      ).choices(['text', 'json']),
    );
}
