/** What the page's server answers to requests: static files to whoever asks, everything else to whoever has the token. */
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Registry } from 'prom-client';
import type { Access } from './access.ts';
import type { Asset } from './assets.ts';

const HEADERS = {
  'content-security-policy':
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin',
  'cache-control': 'no-store',
};

interface Reply {
  readonly status: number;
  readonly type?: string;
  readonly body?: string | Buffer;
}

const WITH_TOKEN = 'open the address that the command printed: it ends with the token\n';

const plain = (status: number, body: string): Reply => ({ status, body });

export class Replies {
  readonly #access: Access;
  readonly #assets: ReadonlyMap<string, Asset>;
  readonly #registry: Registry;
  readonly #state: () => string;

  /** `state`: what the page shows now, as JSON. */
  constructor(access: Access, assets: ReadonlyMap<string, Asset>, registry: Registry, state: () => string) {
    this.#access = access;
    this.#assets = assets;
    this.#registry = registry;
    this.#state = state;
  }

  async answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    for (const [name, value] of Object.entries(HEADERS)) response.setHeader(name, value);
    // No request of ours has a body worth reading.
    request.resume();
    const { status, type = 'text/plain; charset=utf-8', body = '' } = await this.#reply(request);
    response.writeHead(status, { 'content-type': type, 'content-length': Buffer.byteLength(body) });
    response.end(request.method === 'HEAD' ? undefined : body);
  }

  async #reply(request: IncomingMessage): Promise<Reply> {
    const [path = '/'] = (request.url ?? '/').split('?');
    if (!this.#access.isAddressed(request)) return plain(421, 'this server is not called that\n');
    if (request.method === 'POST' && path === '/session') return this.#openSession(request);
    if (request.method !== 'GET' && request.method !== 'HEAD') return plain(405, 'GET only\n');
    const asset = this.#assets.get(path);
    if (asset) return { status: 200, ...asset };
    if (path !== '/state.json' && path !== '/metrics') return plain(404, 'there is nothing here\n');
    if (!this.#access.isOwn(request)) return plain(403, 'not from another site\n');
    if (!this.#access.isAllowed(request)) return plain(401, WITH_TOKEN);
    if (path === '/metrics')
      return { status: 200, type: this.#registry.contentType, body: await this.#registry.metrics() };
    return { status: 200, type: 'application/json', body: this.#state() };
  }

  /** The token for what the page has instead. */
  #openSession(request: IncomingMessage): Reply {
    if (!this.#access.isOwn(request)) return plain(403, 'not from another site\n');
    if (!this.#access.hasToken(request)) return plain(401, WITH_TOKEN);
    return plain(200, this.#access.session);
  }
}
