/**
 * Who may see the page's data and act on it: whoever has the token that the command printed. The page sends it once and gets a secret of this
 * server for it, which says nothing of the token; both are sent with each request (`Authorization: Bearer`), and by the page's WebSocket, which
 * can send no such header, as a subprotocol. There is no cookie: a browser would send it to every port of the host. A page of another site can
 * do neither: the names that it could have this server called by (DNS rebinding) are refused, and so is a request that says it comes from there.
 */
import { createHash, randomBytes, timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { isIP } from 'node:net';

const TOKEN_BYTES = 24;
const SESSION_BYTES = 24;

/** The subprotocol of the live channel. One that begins with the other of these is no protocol but a secret. */
export const LIVE_PROTOCOL = 'rdma-migrate';
const SECRET_PROTOCOL = 'session.';
/** Close code of the live channel of a command that has ended: 4000 and up are free for an application. web/page.js has it too. */
export const COMMAND_ENDED = 4000;

export class Access {
  readonly token: string;
  /** What the page has instead of the token: worth nothing to any other server. */
  readonly session = randomBytes(SESSION_BYTES).toString('base64url');
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
  hasToken(request: IncomingMessage): boolean {
    return same(bearerOf(request), this.token);
  }

  isAllowed(request: IncomingMessage): boolean {
    const sent = bearerOf(request) ?? secretOf(request);
    return same(sent, this.token) || same(sent, this.session);
  }
}

const bearerOf = ({ headers }: IncomingMessage): string | undefined =>
  /^Bearer ([\w-]{1,128})$/i.exec(headers.authorization ?? '')?.[1];

/** Of a WebSocket of the page. */
const secretOf = ({ headers }: IncomingMessage): string | undefined =>
  (headers['sec-websocket-protocol'] ?? '')
    .split(',')
    .map((part) => part.trim())
    .find((part) => part.startsWith(SECRET_PROTOCOL))
    ?.slice(SECRET_PROTOCOL.length);

/** Without its port: whoever forwards a port has another one. */
const hostOf = (host: string | undefined): string | undefined =>
  /^(\[[0-9a-f:.]+\]|[a-z0-9.-]+)(:\d{1,5})?$/i
    .exec(host ?? '')?.[1]
    ?.replace(/^\[|\]$/g, '')
    .toLowerCase();

const digest = (text: string): Buffer => createHash('sha256').update(text).digest();

/** Takes the same time wherever they differ. */
const same = (a: string | undefined, b: string): boolean =>
  a !== undefined && timingSafeEqual(digest(a), digest(b));
