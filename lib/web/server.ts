/**
 * Serves the page of the migrations of this process: static files to whoever asks, everything else to whoever has the token ({@link Access}).
 * It reads what the migrations tell, four times a second and once for all viewers; nothing that a viewer does or leaves undone reaches one, but
 * the actions that it may ask for (actions.ts).
 */
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Duplex } from 'node:stream';
import { Registry } from 'prom-client';
import { type WebSocket, WebSocketServer } from 'ws';
import { type ErrorCode, MigrationError } from '../errors.ts';
import { toJson } from '../json.ts';
import { MigrationMetrics } from '../metrics/index.ts';
import type { Migration } from '../migration/migration.ts';
import { MigrationSource } from '../migration/source/source.ts';
import { Access, COMMAND_ENDED, LIVE_PROTOCOL } from './access.ts';
import { act } from './actions.ts';
import { authority, type WebAddress } from './address.ts';
import { type Asset, loadAssets } from './assets.ts';
import { Replies } from './replies.ts';
import { Viewer } from './viewer.ts';
import { type Controls, Watched } from './watched.ts';

const TICK_MS = 250;
const PROBE_MS = 10_000;
const MOST_VIEWERS = 256;
/** Viewers, and requests beside them. */
const MOST_CONNECTIONS = 512;
const MOST_MESSAGE = 4096;
const MOST_UNREAD = 1 << 20;
/** A peer that is slow to say what it wants. */
const REQUEST_MS = 10_000;
const CHECK_MS = 1_000;
/** How long the last word may take to reach a viewer. */
const LAST_WORD_MS = 1_000;
/** Of migrations that have ended; the newest stay. */
const MOST_MIGRATIONS = 64;

export interface WebServerOptions {
  /** Instead of a new random one. */
  readonly token?: string;
  /** Hears of everything that a viewer has done, in words. */
  readonly onAction?: (what: string) => void;
}

export class WebServer implements AsyncDisposable {
  readonly #http: Server;
  readonly #sockets: WebSocketServer;
  readonly #access: Access;
  readonly #replies: Replies;
  readonly #registry = new Registry();
  readonly #metrics = new MigrationMetrics(this.#registry);
  readonly #viewers = new Set<Viewer>();
  readonly #options: WebServerOptions;
  readonly #host: string;
  readonly #timers: readonly NodeJS.Timeout[];
  #watched: readonly Watched[] = [];
  #next = 0;
  #closing: Promise<void> | undefined;

  private constructor(host: string, assets: ReadonlyMap<string, Asset>, options: WebServerOptions) {
    this.#host = host;
    this.#options = options;
    this.#access = new Access(host, options.token);
    this.#replies = new Replies(this.#access, assets, this.#registry, () => this.#state);
    this.#sockets = new WebSocketServer({
      noServer: true,
      maxPayload: MOST_MESSAGE,
      perMessageDeflate: false,
      // Never the other one, which is a secret.
      handleProtocols: (offered) => offered.has(LIVE_PROTOCOL) && LIVE_PROTOCOL,
    });
    this.#http = createServer(
      { requestTimeout: REQUEST_MS, headersTimeout: REQUEST_MS, connectionsCheckingInterval: CHECK_MS },
      (request, response) => void this.#replies.answer(request, response).catch(() => response.destroy()),
    );
    this.#http.maxConnections = MOST_CONNECTIONS;
    this.#http.on('upgrade', (request, socket, head) => this.#upgrade(request, socket, head));
    this.#timers = [
      setInterval(() => this.#tick(), TICK_MS).unref(),
      setInterval(() => this.#probe(), PROBE_MS).unref(),
    ];
  }

  /** @throws MigrationError ADDRESS_IN_USE, ADDRESS_NOT_FOUND, PERMISSION_DENIED, LISTEN_FAILED */
  static async listen({ host, port }: WebAddress, options: WebServerOptions = {}): Promise<WebServer> {
    const server = new WebServer(host, await loadAssets(), options);
    try {
      server.#http.listen(port, host);
      await once(server.#http, 'listening');
    } catch (error) {
      await server.close();
      throw listenFailed(error as NodeJS.ErrnoException, authority({ host, port }));
    }
    // No descriptor was left for a viewer: that is no reason for the process, and its migrations, to end.
    server.#http.on('error', () => {});
    // It keeps no process alive that has nothing else to do.
    server.#http.unref();
    return server;
  }

  get port(): number {
    return (this.#http.address() as AddressInfo).port;
  }

  get token(): string {
    return this.#access.token;
  }

  get origin(): string {
    return `http://${authority({ host: this.#host, port: this.port })}`;
  }

  /** With the token, which a browser keeps to itself: what follows # is in no request and in no log. */
  get url(): string {
    return `${this.origin}/#${this.token}`;
  }

  /** From here on this migration is on the page, also after its end. Before it begins, so that nothing of it is missed. */
  show(migration: Migration, title: string, cancel: () => void): void {
    const controls: Controls = { cancel, ...(migration instanceof MigrationSource && { source: migration }) };
    const added = [...this.#watched, new Watched(this.#next++, migration, title, controls)];
    const dropped = added
      .filter(({ hasEnded }) => hasEnded)
      .slice(0, Math.max(0, added.length - MOST_MIGRATIONS));
    for (const one of dropped) one.close();
    this.#watched = added.filter((one) => !dropped.includes(one));
  }

  /** Tells every viewer how it stands, and that this was the last word. Idempotent. */
  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    for (const timer of this.#timers) clearInterval(timer);
    this.#tick();
    for (const one of this.#watched) one.close();
    this.#metrics.close();
    const closed = this.#http.listening ? once(this.#http, 'close') : undefined;
    this.#http.close();
    await Promise.all(
      [...this.#viewers].map((viewer) => viewer.close(COMMAND_ENDED, 'the command has ended', LAST_WORD_MS)),
    );
    this.#http.closeAllConnections();
    await closed;
  }

  #tick(): void {
    for (const one of this.#watched) one.sample();
    if (this.#viewers.size === 0) return;
    const state = this.#state;
    for (const { map } of this.#watched) map.refresh();
    for (const viewer of this.#viewers) viewer.show(state, this.#watched);
  }

  get #state(): string {
    return toJson({ type: 'state', migrations: this.#watched.map(({ snapshot }) => snapshot) });
  }

  #probe(): void {
    for (const viewer of this.#viewers) viewer.probe();
  }

  #upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    socket.on('error', () => socket.destroy());
    const refusal = this.#refusal(request);
    if (refusal !== undefined) {
      socket.once('finish', () => socket.destroy());
      socket.end(`HTTP/1.1 ${refusal}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`);
      return;
    }
    this.#sockets.handleUpgrade(request, socket, head, (accepted) => this.#view(accepted));
  }

  #refusal(request: IncomingMessage): string | undefined {
    if (this.#closing || this.#viewers.size >= MOST_VIEWERS) return '503 Service Unavailable';
    if (request.url !== '/live') return '404 Not Found';
    if (!this.#access.isAddressed(request)) return '421 Misdirected Request';
    if (!this.#access.isOwn(request)) return '403 Forbidden';
    return this.#access.isAllowed(request) ? undefined : '401 Unauthorized';
  }

  #view(socket: WebSocket): void {
    const viewer = new Viewer(socket);
    this.#viewers.add(viewer);
    socket.on('error', () => socket.terminate());
    socket.on('close', () => this.#viewers.delete(viewer));
    socket.on('message', (data, isBinary) => {
      // Who asks and does not listen is let go.
      if (isBinary || socket.bufferedAmount > MOST_UNREAD) return socket.terminate();
      const done = (what: string): void => this.#options.onAction?.(what);
      socket.send(toJson(act(String(data), this.#watched, done)));
    });
    viewer.show(this.#state, this.#watched);
  }
}

const LISTEN_ERRORS: Readonly<Record<string, ErrorCode>> = {
  EADDRINUSE: 'ADDRESS_IN_USE',
  EADDRNOTAVAIL: 'ADDRESS_NOT_FOUND',
  ENOTFOUND: 'ADDRESS_NOT_FOUND',
  EACCES: 'PERMISSION_DENIED',
};

function listenFailed(error: NodeJS.ErrnoException, where: string): MigrationError {
  const code = LISTEN_ERRORS[error.code ?? ''] ?? 'LISTEN_FAILED';
  const message = `the page cannot be served at ${where}: ${error.message}. Choose another address or port (--web)`;
  return new MigrationError(code, 'configure', message, { cause: error });
}
