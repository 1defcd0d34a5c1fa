import { MigrationError, toMigrationError } from '../errors.ts';
import { native } from '../native/index.ts';
import type { NativeConnectionRequest, NativeListener, NativeStranger } from '../native/transport.ts';
import { formatRdmaUri, parseRdmaUri, type RdmaAddress } from '../protocol/uri.ts';
import { type ChosenProvider, chooseProvider } from '../transport/provider.ts';
import { AllowedAddresses } from '../trust/allow.ts';
import { openTrust } from '../trust/open.ts';
import { type LocalAddress, parseLocalAddress } from './address.ts';
import { DEFAULTS } from './defaults.ts';
import { decodeHello, type Hello, type Status } from './hello.ts';
import { helloOf, Link, type LinkSettings } from './link.ts';
import { checkTunnelDestination } from './option-schema.ts';
import type { TunnelDestinationOptions, TunnelEvents } from './options.ts';
import { connectLocal, type LocalEnd, STDIO } from './sockets.ts';
import { requireRecords } from './source.ts';
import { type ReadyStream, Streams } from './streams.ts';

const CONNECTIONS_PER_SECOND = 100;

/** The end of a tunnel that is dialled, and connects each stream with a local socket. */
export class TunnelDestination implements AsyncDisposable {
  /** The provider in use and why. */
  readonly provider: ChosenProvider;
  readonly #at: RdmaAddress;
  readonly #to: LocalAddress;
  readonly #settings: LinkSettings;
  readonly #allowed: AllowedAddresses | undefined;
  readonly #events: TunnelEvents;
  readonly #streams: Streams;
  #listener: NativeListener | undefined;
  #closing: Promise<void> | undefined;
  /** Stdin and stdout are one stream's. */
  #stdioTaken = false;

  private constructor(
    addresses: { readonly at: RdmaAddress; readonly to: LocalAddress },
    provider: ChosenProvider,
    settings: LinkSettings,
    { allow, once = false }: TunnelDestinationOptions,
    events: TunnelEvents,
  ) {
    this.#at = addresses.at;
    this.#to = addresses.to;
    this.provider = provider;
    this.#settings = settings;
    this.#allowed = allow && new AllowedAddresses(allow);
    this.#events = events;
    const silenceMs = settings.responseTimeoutMs;
    this.#streams = new Streams(
      { once: once || this.#to.kind === 'stdio', strangers: true, silenceMs },
      events,
    );
  }

  /**
   * @param uri where to listen, `rdma:host:port`; port 0 takes any free port
   * @param local what each stream is connected with: `unix:PATH`, `tcp:HOST:PORT`; `-`: stdin and stdout, for one stream only
   * @throws MigrationError INVALID_URI, INVALID_ARGUMENT, ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED, PROVIDER_UNAVAILABLE,
   *   CREDENTIALS_INVALID
   */
  static async listen(
    uri: string,
    local: string,
    options: TunnelDestinationOptions = {},
    events: TunnelEvents = {},
  ): Promise<TunnelDestination> {
    checkTunnelDestination(options);
    const addresses = { at: parseRdmaUri(uri), to: parseLocalAddress(local) };
    const { provider: choice = 'auto', tls, crc } = options;
    const provider = await chooseProvider(choice, addresses.at, 'listen');
    if (tls) requireRecords(provider);
    const trust = tls && (await openTrust(tls, 'server', addresses.at.host));
    const settings = { ...DEFAULTS, ...options, provider: provider.name, crc, ...(trust && { trust }) };
    const destination = new TunnelDestination(addresses, provider, settings, options, events);
    await destination.#open(options.connectionsPerSecond ?? CONNECTIONS_PER_SECOND);
    return destination;
  }

  async #open(connectionsPerSecond: number): Promise<void> {
    const { provider, connectTimeoutMs, responseTimeoutMs: stallTimeoutMs } = this.#settings;
    try {
      this.#listener = await native.listen(
        provider,
        this.#at,
        { crc: false, connectTimeoutMs, stallTimeoutMs, connectionsPerSecond },
        (request) => this.#come(request),
        (error) => this.#streams.fail(toMigrationError(error, 'listen')),
        (stranger) => this.#strange(stranger),
      );
    } catch (error) {
      throw toMigrationError(error, 'listen');
    }
  }

  /** `rdma:host:port` with the port that was bound. */
  get uri(): string {
    return formatRdmaUri({ host: this.#at.host, port: this.#listener?.port ?? this.#at.port });
  }

  /** Who may not come learns nothing. */
  #come(request: NativeConnectionRequest): void {
    if (this.#allowed?.hasPeer(request.peerAddress) === false) {
      request.drop();
      this.#refused(
        request,
        new MigrationError(
          'NOT_AUTHORIZED',
          'listen',
          'its address is not among those that may connect (--allow)',
        ),
      );
      return;
    }
    try {
      const hello = decodeHello(request.privateData);
      const status = this.#answer(hello);
      if (status !== 'welcome') {
        this.#turnAway(request, status);
        return;
      }
      this.#stdioTaken ||= this.#to.kind === 'stdio';
      this.#streams.run(request.peerAddress, (signal) => this.#join(request, hello, signal));
    } catch (error) {
      this.#turnAway(request, 'version', toMigrationError(error, 'negotiate'));
    }
  }

  #answer({ status, tls, softwareRnic }: Hello): Status {
    if (status !== 'welcome') return 'version';
    if (this.#settings.trust !== undefined && !tls) return 'tls-required';
    if (this.#settings.trust === undefined && tls) return 'no-tls';
    if (tls && !softwareRnic) return 'not-protected';
    return this.#streams.full || this.#stdioTaken ? 'busy' : 'welcome';
  }

  /** The peer is told that this is a tunnel, and why. */
  #turnAway(request: NativeConnectionRequest, status: Status, why = refusedFor(status)): void {
    this.#refused(request, why);
    try {
      request.reject(helloOf(this.#settings, status));
    } catch {
      request.drop(); // it has gone already
    }
  }

  /** The local socket is dialled when the peer has shown who it is, and that it speaks. */
  async #join(request: NativeConnectionRequest, hello: Hello, signal: AbortSignal): Promise<ReadyStream> {
    let link: Link | undefined;
    let local: LocalEnd | undefined;
    try {
      link = await Link.accept(request, hello, this.#settings, signal);
      const { connectTimeoutMs } = this.#settings;
      const ring = await link.ring(connectTimeoutMs, signal);
      local = await this.#reach(link, connectTimeoutMs, signal);
      return { link, stream: await link.offer(), ring, local };
    } catch (error) {
      this.#stdioTaken = false;
      request.drop(); // unless it was accepted
      local?.refuse();
      await link?.close();
      throw error;
    }
  }

  async #reach(link: Link, timeoutMs: number, signal: AbortSignal): Promise<LocalEnd> {
    if (this.#to.kind === 'stdio') return STDIO;
    try {
      return await connectLocal(this.#to, timeoutMs, signal);
    } catch (error) {
      await link.refuse();
      throw error;
    }
  }

  #strange({ address, spoke, count }: NativeStranger): void {
    const others = count > 1 ? `, the last of ${count}` : '';
    this.#events.refused?.(
      address,
      new MigrationError('PROTOCOL_ERROR', 'listen', `it spoke ${spoke}${others}`),
    );
  }

  #refused({ peerAddress }: NativeConnectionRequest, error: MigrationError): void {
    this.#events.refused?.(peerAddress, error);
  }

  /** As {@link TunnelSource.serve}; also LISTEN_FAILED: its device is gone. */
  async serve({ signal }: { readonly signal?: AbortSignal } = {}): Promise<void> {
    try {
      await this.#streams.serve(signal);
    } finally {
      await this.close();
    }
  }

  /** Idempotent. What is under way is reset. */
  close(): Promise<void> {
    this.#closing ??= Promise.all([this.#listener?.close(), this.#streams.close()]).then(() => {});
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const refusedFor = (status: Status): MigrationError =>
  new MigrationError('REJECTED', 'negotiate', `it was refused: ${status}`);
