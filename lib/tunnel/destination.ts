import { MigrationError, toMigrationError } from '../errors.ts';
import { native } from '../native/index.ts';
import type { NativeConnectionRequest, NativeListener, NativeStranger } from '../native/transport.ts';
import { formatRdmaUri, parseRdmaUri, type RdmaAddress } from '../protocol/uri.ts';
import { hostOf } from '../transport/host.ts';
import { type ChosenProvider, chooseProvider } from '../transport/provider.ts';
import { AllowedAddresses } from '../trust/allow.ts';
import { openTrust } from '../trust/open.ts';
import { type LocalAddress, parseLocalAddress } from './address.ts';
import { DEFAULTS } from './defaults.ts';
import { TunnelEnd } from './end.ts';
import { decodeHello, type Hello, type Status } from './hello.ts';
import { helloOf, Link, type LinkSettings } from './link.ts';
import { Openings } from './openings.ts';
import { checkTunnelDestination } from './option-schema.ts';
import type { TunnelDestinationOptions, TunnelEvents } from './options.ts';
import { connectLocal, type LocalEnd, STDIO } from './sockets.ts';
import { requireRecords } from './source.ts';
import { type ReadyStream, Streams } from './streams.ts';

const CONNECTIONS_PER_SECOND = 100;

/** A peer that wants a stream, whose hello can be answered. */
interface Caller {
  readonly request: NativeConnectionRequest;
  readonly hello: Hello;
}

/** The end of a tunnel that is dialled, and connects each stream with a local socket. */
export class TunnelDestination extends TunnelEnd {
  /** The provider in use and why. */
  readonly provider: ChosenProvider;
  readonly #at: RdmaAddress;
  readonly #to: LocalAddress;
  readonly #settings: LinkSettings;
  readonly #allowed: AllowedAddresses | undefined;
  readonly #events: TunnelEvents;
  readonly #openings = new Openings<Caller>((caller) => this.#admit(caller));
  /** Last words to peers that could not open a stream. */
  readonly #parting = new Set<Promise<void>>();
  #listener: NativeListener | undefined;
  /** Stdin and stdout are one stream's: of the first peer that has shown who it is, and that it speaks. */
  #stdioTaken = false;

  private constructor(
    addresses: { readonly at: RdmaAddress; readonly to: LocalAddress },
    provider: ChosenProvider,
    settings: LinkSettings,
    { allow, once = false }: TunnelDestinationOptions,
    events: TunnelEvents,
  ) {
    const silenceMs = settings.responseTimeoutMs;
    const only = once || addresses.to.kind === 'stdio';
    super(new Streams({ once: only, strangers: true, silenceMs }, events));
    this.#at = addresses.at;
    this.#to = addresses.to;
    this.provider = provider;
    this.#settings = settings;
    this.#allowed = allow && new AllowedAddresses(allow);
    this.#events = events;
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
        (error) => this.streams.fail(toMigrationError(error, 'listen')),
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
      if (status === 'welcome') {
        const leaving = this.#openings.come(hostOf(request.peerAddress), { request, hello });
        if (leaving) this.#turnAway(leaving.request, 'busy');
      } else this.#turnAway(request, status);
    } catch (error) {
      this.#turnAway(request, 'version', toMigrationError(error, 'negotiate'));
    }
  }

  /** It may have waited: whether it is welcome is asked again. Never rejects. */
  async #admit({ request, hello }: Caller): Promise<void> {
    const status = this.#answer(hello);
    if (status !== 'welcome') this.#turnAway(request, status);
    else
      await this.streams.run(request.peerAddress, (signal, shown) =>
        this.#join({ request, hello }, signal, shown),
      );
  }

  #answer({ status, tls, softwareRnic }: Hello): Status {
    if (status !== 'welcome') return 'version';
    if (this.#settings.trust !== undefined && !tls) return 'tls-required';
    if (this.#settings.trust === undefined && tls) return 'no-tls';
    if (tls && !softwareRnic) return 'not-protected';
    return this.streams.full || this.#stdioTaken ? 'busy' : 'welcome';
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
  async #join({ request, hello }: Caller, signal: AbortSignal, shown: () => void): Promise<ReadyStream> {
    let link: Link | undefined;
    let local: LocalEnd | undefined;
    try {
      link = await Link.accept(request, hello, this.#settings, signal);
      const { connectTimeoutMs } = this.#settings;
      const ring = await link.ring(connectTimeoutMs, signal);
      shown();
      local = await this.#reach(link, connectTimeoutMs, signal);
      return { link, stream: await link.offer(signal), ring, local };
    } catch (error) {
      if (local === STDIO) this.#stdioTaken = false;
      request.drop(); // unless it was accepted
      local?.refuse();
      if (link) this.#partFrom(link);
      throw error;
    }
  }

  /** Its place is free for the next already. */
  #partFrom(link: Link): void {
    const parted = link.close().finally(() => this.#parting.delete(parted));
    this.#parting.add(parted);
  }

  async #reach(link: Link, timeoutMs: number, signal: AbortSignal): Promise<LocalEnd> {
    try {
      return this.#to.kind === 'stdio' ? this.#takeStdio() : await connectLocal(this.#to, timeoutMs, signal);
    } catch (error) {
      await link.refuse(signal);
      throw error;
    }
  }

  #takeStdio(): LocalEnd {
    if (this.#stdioTaken)
      throw new MigrationError('REJECTED', 'connect', 'stdin and stdout are another stream’s already');
    this.#stdioTaken = true;
    return STDIO;
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

  protected override async stopListening(): Promise<void> {
    for (const { request } of this.#openings.clear()) request.drop();
    await this.#listener?.close();
  }

  protected override async part(): Promise<void> {
    await Promise.all(this.#parting);
  }
}

const refusedFor = (status: Status): MigrationError =>
  new MigrationError('REJECTED', 'negotiate', `it was refused: ${status}`);
