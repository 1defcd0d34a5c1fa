import { isIPv4, isIPv6 } from 'node:net';
import { MigrationError } from '../errors.ts';

const SCHEME = 'rdma:';

/** Where to listen or to connect. `host`: an IPv4 or IPv6 address without brackets, or a name. `port`: 0 to 65535. */
export interface RdmaAddress {
  readonly host: string;
  readonly port: number;
}

/**
 * Reads QEMU's `rdma:host:port`; IPv6 in brackets: `rdma:[::1]:4444`. Port 0 lets a listener choose. Throws INVALID_URI.
 */
export function parseRdmaUri(uri: string): RdmaAddress {
  if (!uri.startsWith(SCHEME)) throw invalid(uri, `it does not start with ${SCHEME}`);
  const rest = uri.slice(SCHEME.length);
  if (rest.startsWith('//')) throw invalid(uri, 'it must have no slashes');
  const colon = rest.lastIndexOf(':');
  if (colon < 0 || rest.endsWith(']')) throw invalid(uri, 'the port is missing');
  const host = parseHost(uri, rest.slice(0, colon));
  return { host, port: parsePort(uri, rest.slice(colon + 1)) };
}

/** The inverse; `parseRdmaUri(formatRdmaUri(address))` equals `address`. */
export function formatRdmaUri(address: RdmaAddress): string {
  const host = address.host.includes(':') ? `[${address.host}]` : address.host;
  return `${SCHEME}${host}:${address.port}`;
}

function parseHost(uri: string, text: string): string {
  if (text === '') throw invalid(uri, 'the host is missing; to listen everywhere use 0.0.0.0 or [::]');
  if (text.startsWith('[')) {
    const address = text.slice(1, -1);
    if (!text.endsWith(']') || !isIPv6(address))
      throw invalid(uri, `${text} is not an IPv6 address in brackets`);
    return address;
  }
  if (text.includes(':')) throw invalid(uri, 'an IPv6 address must be in brackets');
  if (/^[\d.]+$/.test(text) && !isIPv4(text)) throw invalid(uri, `${text} is not an IPv4 address`);
  if (
    text.length > 253 ||
    !/^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?$/.test(text) ||
    text.includes('..')
  ) {
    throw invalid(uri, `${JSON.stringify(text)} is not a host name`);
  }
  return text;
}

function parsePort(uri: string, text: string): number {
  const comma = text.indexOf(',');
  if (comma >= 0)
    throw invalid(uri, `options such as ${JSON.stringify(text.slice(comma))} are not supported`);
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port > 65535) {
    throw invalid(uri, `the port is ${JSON.stringify(text)}, expected a number from 0 to 65535`);
  }
  return port;
}

function invalid(uri: string, why: string): MigrationError {
  return new MigrationError(
    'INVALID_URI',
    'configure',
    `Invalid URI ${JSON.stringify(uri)}: ${why}. Expected rdma:host:port, such as rdma:192.0.2.7:4444 or rdma:[2001:db8::7]:4444`,
  );
}
