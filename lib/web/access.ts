/**
 * Who may see the page's data and act on it: whoever has the token that the command printed. The page sends it once, and has a cookie from then
 * on that no script reads; programs send it with each request (`Authorization: Bearer`). A page of another site can do neither: the names that
 * it could have this server called by (DNS rebinding) are refused, and so is a request that says it comes from there.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';

const TOKEN_BYTES = 24;
const SESSION_BYTES = 24;

export class Access {
  readonly token: string;
  readonly #session = randomBytes(SESSION_BYTES).toString('base64url');
  readonly #host: string;

  /** `host`: the name or address that the server was told to listen at. `token`: 192 random bits, base64url, unless one is given. */
  constructor(host: string, token = randomBytes(TOKEN_BYTES).toString('base64url')) {
    this.token = token;
    this.#host = host.toLowerCase();
  }

  /** The request was sent to an address, to `localhost`, or to the name that the server was given: names of others may be anybody's. */
  isAddressed({ headers }: IncomingMessage): boolean {
    const host = hostOf(headers.host);
    return host !== undefined && (isIP(host) !== 0 || host === 'localhost' || host === this.#host);
  }

  /** No page of another origin has sent it. A browser says where a request comes from, other programs do not. */
  isOwn({ headers }: IncomingMessage): boolean {
    const site = headers['sec-fetch-site'];
    if (site !== undefined && site !== 'same-origin' && site !== 'none') return false;
    return headers.origin === undefined || headers.origin === `http://${headers.host}`;
  }

  /** The request has the token itself. */
  hasToken({ headers }: IncomingMessage): boolean {
    const sent = /^Bearer ([\w-]{1,128})$/i.exec(headers.authorization ?? '')?.[1];
    return sent !== undefined && same(sent, this.token);
  }

  isAllowed(request: IncomingMessage): boolean {
    return this.hasToken(request) || this.#hasCookie(request);
  }

  /** Sent back by the browser alone, to this server alone, until it is closed. Browsers do not tell ports apart, so the name does. */
  cookie(port: number | undefined): string {
    return `${cookieName(port)}=${this.#session}; HttpOnly; SameSite=Strict; Path=/`;
  }

  #hasCookie({ headers, socket }: IncomingMessage): boolean {
    const name = cookieName(socket.localPort);
    const cookies = (headers.cookie ?? '').split(';').map((part) => part.trim());
    const sent = cookies.find((part) => part.startsWith(`${name}=`))?.slice(name.length + 1);
    return sent !== undefined && same(sent, this.#session);
  }
}

const cookieName = (port: number | undefined): string => `rdma_migrate_${port ?? 0}`;

/** Without its port: whoever forwards a port has another one. */
const hostOf = (host: string | undefined): string | undefined =>
  /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?$/i
    .exec(host ?? '')?.[1]
    ?.replace(/^\[|\]$/g, '')
    .toLowerCase();

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Takes the same time wherever they differ. */
const same = (a: string, b: string): boolean => timingSafeEqual(digest(a), digest(b));
