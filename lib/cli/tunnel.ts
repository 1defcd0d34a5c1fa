import type { MigrationError } from '../errors.ts';
import { isLoopback } from '../migration/destination/exposure.ts';
import { Refusals } from '../migration/destination/refusals.ts';
import { invalid } from '../options/check.ts';
import { parseRdmaUri } from '../protocol/uri.ts';
import type { SourceTlsOptions } from '../trust/credentials.ts';
import { TunnelDestination, type TunnelEvents, TunnelSource, type TunnelStreamEnd } from '../tunnel/index.ts';
import { checkTunnelDestination, checkTunnelSource } from '../tunnel/option-schema.ts';
import { formatBytes } from './format.ts';
import type { Reporter } from './reporter.ts';
import type { CommandContext } from './run.ts';
import { tlsOptions } from './tls-options.ts';
import type { TunnelCommandOptions } from './tunnel-program.ts';
import { ON_COMMAND_LINE } from './wording.ts';

/** `rdma-migrate tunnel`: one end of a tunnel, until it is stopped. */
export async function tunnel(
  { reporter, signal }: CommandContext,
  uri: string,
  options: TunnelCommandOptions,
): Promise<void> {
  const totals = new Totals(reporter);
  await using end = await open(uri, options, totals.events);
  reporter.debug(`provider ${end.provider.name}: ${end.provider.reason}`);
  await warn(end, options, reporter);
  reporter.listening(end instanceof TunnelSource ? end.address : end.uri);
  await end.serve({ signal });
  totals.completed(end.provider.name);
}

async function open(
  uri: string,
  options: TunnelCommandOptions,
  events: TunnelEvents,
): Promise<TunnelSource | TunnelDestination> {
  const { listen, to, allow, connectionsPerSecond } = options;
  if (listen !== undefined) {
    const wanted = commonOptions(options);
    checkTunnelSource(wanted, ON_COMMAND_LINE);
    return TunnelSource.listen(listen, uri, wanted, events);
  }
  if (to === undefined)
    throw invalid('a tunnel needs --listen ADDRESS at the source or --to ADDRESS at the destination');
  const wanted = {
    ...commonOptions(options),
    ...(allow && { allow }),
    ...(connectionsPerSecond !== undefined && { connectionsPerSecond }),
  };
  checkTunnelDestination(wanted, ON_COMMAND_LINE);
  return TunnelDestination.listen(uri, to, wanted, events);
}

/** Of an end that asks nobody who they are. */
async function warn(
  end: TunnelSource | TunnelDestination,
  { tlsCreds, allow }: TunnelCommandOptions,
  reporter: Reporter,
): Promise<void> {
  if (end instanceof TunnelSource || tlsCreds !== undefined || allow?.length === 0) return;
  if (await isLoopback(parseRdmaUri(end.uri).host)) return;
  const who =
    allow === undefined ? 'whoever reaches' : 'whoever has an address of --allow, or forges one, and reaches';
  reporter.notice(
    `${who} ${end.uri} can talk to what --to names, and bytes come in clear. Let only those with credentials in (--tls-creds)`,
    { code: 'UNPROTECTED' },
  );
}

function commonOptions(options: TunnelCommandOptions) {
  const { provider, once, crc, connectTimeout, responseTimeout } = options;
  return {
    provider,
    ...(once && { once }),
    ...(crc !== undefined && { crc }),
    ...(connectTimeout !== undefined && { connectTimeoutMs: connectTimeout }),
    ...(responseTimeout !== undefined && { responseTimeoutMs: responseTimeout }),
    ...(tlsOptions(options) as { tls?: SourceTlsOptions }),
  };
}

/** What is told while it runs, and at its end. */
class Totals {
  readonly #reporter: Reporter;
  #streams = 0;
  #sent = 0n;
  #received = 0n;

  readonly #refusals: Refusals;

  constructor(reporter: Reporter) {
    this.#reporter = reporter;
    this.#refusals = new Refusals((message, who, error) =>
      reporter.notice(message, { code: 'STREAM_REFUSED', who, error }),
    );
  }

  readonly events: TunnelEvents = {
    opened: ({ stream, peer, tls }) =>
      this.#reporter.notice(
        `stream ${stream} opened, the other end is ${peer}${tls ? `, protected by TLS 1.3 (${tls.cipher}), ${tls.peer}` : ''}`,
        { code: 'STREAM_OPENED', stream, peer, ...(tls && { tls }) },
      ),
    closed: (end) => this.#closed(end),
    refused: (who, error) => this.#refusals.add(who === 'local' ? 'a local connection' : who, error),
  };

  #closed({ stream, peer, sent, received, error }: TunnelStreamEnd): void {
    this.#streams += 1;
    this.#sent += sent;
    this.#received += received;
    const bytes = `${formatBytes(sent)} sent, ${formatBytes(received)} received`;
    const how = error === undefined ? 'closed' : `was reset: ${inWords(error)}`;
    this.#reporter.notice(`stream ${stream} ${how}; ${bytes}`, {
      code: 'STREAM_CLOSED',
      stream,
      peer,
      sent,
      received,
      ...(error && { error: error.code }),
    });
  }

  completed(provider: string): void {
    const [streams, sent, received] = [this.#streams, this.#sent, this.#received];
    this.#reporter.completed({ streams, sent, received, provider }, [
      `${streams} ${streams === 1 ? 'stream' : 'streams'}: ${formatBytes(sent)} sent, ${formatBytes(received)} received over ${provider}`,
    ]);
  }
}

const inWords = ({ message, code }: MigrationError): string => `${message} (${code})`;
