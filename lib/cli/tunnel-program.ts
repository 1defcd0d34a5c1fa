/** `rdma-migrate tunnel`: its arguments and options. It loads nothing that needs the addon. */
import { type Command, Option } from 'commander';
import type { ProviderChoice } from '../transport/provider.ts';
import { collectName, collectNetwork, parseCount, parsePath, parseSeconds } from './arguments.ts';
import type { OutputOptions } from './output.ts';

export interface TunnelCommandOptions extends OutputOptions {
  /** The source: where local connections are taken. */
  readonly listen?: string;
  /** The destination: what streams are connected with. */
  readonly to?: string;
  readonly once?: boolean;
  readonly provider: ProviderChoice;
  readonly crc?: boolean;
  readonly allow?: readonly string[];
  readonly connectionsPerSecond?: number;
  /** Milliseconds. */
  readonly connectTimeout?: number;
  readonly responseTimeout?: number;
  /** An absolute path. */
  readonly tlsCreds?: string;
  readonly tlsAuthz?: readonly string[];
  readonly tlsPskName?: string;
  readonly tlsHostname?: string;
}

export const TUNNEL_HELP = `
Examples:
  destination:  rdma-migrate tunnel rdma:0.0.0.0:4444 --to unix:/run/in.sock
  source:       rdma-migrate tunnel --listen unix:/run/m.sock rdma:dst:4444
                (qemu) migrate unix:/run/m.sock
  without a socket at the source:
                (qemu) migrate "exec:rdma-migrate tunnel --listen - rdma:dst:4444"
Addresses of this machine: unix:PATH, tcp:HOST:PORT, or - for stdin and stdout (one stream).`;

export function addTunnel(
  program: Command,
  run: (uri: string, options: TunnelCommandOptions) => Promise<void>,
): Command {
  return program
    .command('tunnel')
    .summary("carry any byte stream, such as any QEMU's migration, over RDMA")
    .description(
      'Carries streams of bytes between sockets of two hosts over RDMA, both ways: what any QEMU or libvirt migrates with. One end listens for ' +
        'local connections (--listen) and dials the other, which connects each of them (--to). Both serve until they are stopped.',
    )
    .argument('<uri>', 'with --listen the other end, such as rdma:dst:4444; with --to where to wait for it')
    .addOption(new Option('--listen <address>', 'take local connections here: the source').conflicts('to'))
    .option('--to <address>', 'connect each stream with this: the destination')
    .option('--once', 'end when the first stream has ended, and all that were opened meanwhile')
    .addOption(
      new Option('--provider <name>', 'what carries the streams: an RDMA device (verbs) or software (iwarp)')
        .choices(['auto', 'verbs', 'iwarp'])
        .default('auto'),
    )
    .addOption(
      new Option(
        '--allow <network>',
        'who may connect (--to): an address or a network, such as 192.0.2.0/24 (repeatable; default: everybody)',
      )
        .argParser(collectNetwork)
        .conflicts('listen'),
    )
    .addOption(
      new Option(
        '--connections-per-second <number>',
        'how many connections of one address are looked at each second (--to; default 100)',
      )
        .argParser(parseCount)
        .conflicts('listen'),
    )
    .option(
      '--tls-creds <dir>',
      "protect every stream with TLS 1.3 (iwarp only): a folder as QEMU's tls-creds-x509 or tls-creds-psk",
      parsePath,
    )
    .option(
      '--tls-authz <name>',
      'a name of a peer that may take part (repeatable; default: all with good credentials)',
      collectName,
    )
    .option('--tls-psk-name <name>', 'which key of keys.psk a source shows (default qemu)')
    .addOption(
      new Option(
        '--tls-hostname <name>',
        "whom the destination's certificate must name (--listen; default: the host of the URI)",
      ).conflicts('to'),
    )
    .option('--crc', 'ask for CRC32C on the wire (iwarp); two software ends have it anyway')
    .option('--no-crc', 'nothing checks what travels, unless the other end asks for it')
    .option(
      '--connect-timeout <seconds>',
      'the longest time to reach the other end, and what --to names (default 10)',
      parseSeconds,
    )
    .option(
      '--response-timeout <seconds>',
      'the longest silence of the other end, and of the wire (default 60)',
      parseSeconds,
    )
    .addHelpText('after', TUNNEL_HELP)
    .action(run);
}
