import { invalid } from '../options/check.ts';
import { parseRdmaUri, type RdmaAddress } from '../protocol/uri.ts';
import { type ChosenProvider, chooseProvider } from '../transport/provider.ts';
import { openTrust } from '../trust/open.ts';
import { formatLocalAddress, parseLocalAddress } from './address.ts';
import { DEFAULTS } from './defaults.ts';
import { TunnelEnd } from './end.ts';
import { Link, type LinkSettings } from './link.ts';
import { checkTunnelSource } from './option-schema.ts';
import type { TunnelEvents, TunnelSourceOptions } from './options.ts';
import { type LocalEnd, LocalListener, STDIO } from './sockets.ts';
import { type ReadyStream, Streams } from './streams.ts';

/** The end of a tunnel that takes local connections and dials the other end for each of them. */
export class TunnelSource extends TunnelEnd {
  /** The provider in use and why. */
  readonly provider: ChosenProvider;
  readonly #to: RdmaAddress;
  readonly #settings: LinkSettings;
  #listener: LocalListener | undefined;
  /** The stream that is being opened: a QEMU takes the first connection for the main one, so the far socket has to see them in their order. */
  #opening: Promise<unknown> = Promise.resolve();

  private constructor(to: RdmaAddress, provider: ChosenProvider, settings: LinkSettings, streams: Streams) {
    super(streams);
    this.#to = to;
    this.provider = provider;
    this.#settings = settings;
  }

  /**
   * @param local `unix:PATH`, `tcp:HOST:PORT`; `-`: stdin and stdout are the only stream, as with `once`
   * @param uri of the other end: `rdma:host:port`. It is dialled when a local connection comes, and not before
   * @throws MigrationError INVALID_URI, INVALID_ARGUMENT, ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED, PROVIDER_UNAVAILABLE,
   *   CREDENTIALS_INVALID
   */
  static async listen(
    local: string,
    uri: string,
    options: TunnelSourceOptions = {},
    events: TunnelEvents = {},
  ): Promise<TunnelSource> {
    checkTunnelSource(options);
    const [from, to] = [parseLocalAddress(local), parseRdmaUri(uri)];
    const { provider: choice = 'auto', tls, once = false, crc } = options;
    const provider = await chooseProvider(choice, to, 'connect');
    if (tls) requireRecords(provider);
    const trust = tls && (await openTrust(tls, 'client', to.host));
    const settings = { ...DEFAULTS, ...options, provider: provider.name, crc, ...(trust && { trust }) };
    const streams = new Streams(
      { once: once || from.kind === 'stdio', strangers: false, silenceMs: settings.responseTimeoutMs },
      events,
    );
    const source = new TunnelSource(to, provider, settings, streams);
    if (from.kind === 'stdio') source.#take(STDIO);
    else source.#listener = await LocalListener.open(from, (end) => source.#take(end));
    return source;
  }

  /** Where it listens, with the port that was bound; `-`. */
  get address(): string {
    return this.#listener?.address ?? formatLocalAddress({ kind: 'stdio' });
  }

  #take(local: LocalEnd): void {
    if (this.streams.full) {
      local.refuse();
      this.streams.tooMany('local');
    } else void this.streams.run('local', (signal) => this.#openInTurn(local, signal));
  }

  #openInTurn(local: LocalEnd, signal: AbortSignal): Promise<ReadyStream> {
    const open = (): Promise<ReadyStream> => this.#open(local, signal);
    const opening = this.#opening.then(open, open);
    this.#opening = opening;
    return opening;
  }

  async #open(local: LocalEnd, signal: AbortSignal): Promise<ReadyStream> {
    let link: Link | undefined;
    try {
      link = await Link.dial(this.#to, this.#settings, signal);
      const stream = await link.offer(signal);
      // The other end has its own time to reach what the stream is for.
      const ring = await link.ring(this.#settings.responseTimeoutMs, signal);
      return { link, stream, ring, local };
    } catch (error) {
      local.refuse();
      await link?.close();
      throw error;
    }
  }

  protected override async stopListening(): Promise<void> {
    await this.#listener?.close();
  }
}

/** @throws MigrationError INVALID_ARGUMENT */
export function requireRecords({ name, reason }: ChosenProvider): void {
  if (name === 'iwarp') return;
  throw invalid(
    `an RDMA device puts bytes on the wire in the clear, so a tunnel with TLS needs the software RNIC: provider iwarp (--provider iwarp) at both ends. The device: ${reason}`,
  );
}
