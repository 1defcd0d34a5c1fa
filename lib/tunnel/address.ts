/** Where the bytes of a tunnel come from or go to on this machine. Pure. */
import { isIPv6 } from 'node:net';
import { MigrationError } from '../errors.ts';

/** `unix:/run/m.sock`, `tcp:127.0.0.1:4445`, `tcp:[::1]:4445`, or `-` for stdin and stdout. */
export type LocalAddress =
  | { readonly kind: 'unix'; readonly path: string }
  | { readonly kind: 'tcp'; readonly host: string; readonly port: number }
  | { readonly kind: 'stdio' };

/** sun_path, without its zero at the end. */
const MOST_PATH_BYTES = 107;

/** @throws MigrationError INVALID_URI */
export function parseLocalAddress(text: string): LocalAddress {
  if (text === '-') return { kind: 'stdio' };
  if (text.startsWith('unix:')) return unix(text, text.slice('unix:'.length));
  if (text.startsWith('tcp:')) return tcp(text, text.slice('tcp:'.length));
  throw invalid(text, 'it begins with neither unix: nor tcp:');
}

export function formatLocalAddress(address: LocalAddress): string {
  if (address.kind === 'stdio') return '-';
  if (address.kind === 'unix') return `unix:${address.path}`;
  const { host, port } = address;
  return `tcp:${host.includes(':') ? `[${host}]` : host}:${port}`;
}

function unix(text: string, path: string): LocalAddress {
  if (path === '' || path.includes('\0')) throw invalid(text, 'the path is missing');
  const bytes = Buffer.byteLength(path);
  if (bytes > MOST_PATH_BYTES)
    throw invalid(text, `a unix socket's path has at most ${MOST_PATH_BYTES} bytes, this one has ${bytes}`);
  return { kind: 'unix', path };
}

function tcp(text: string, rest: string): LocalAddress {
  const [, bracketed, plain, digits] = /^(?:\[([^\]]+)\]|([^:[\]\s]+)):(\d{1,5})$/.exec(rest) ?? [];
  if (digits === undefined) throw invalid(text, 'it is not tcp:host:port');
  if (bracketed !== undefined && !isIPv6(bracketed)) throw invalid(text, 'in brackets is an IPv6 address');
  const port = Number(digits);
  if (port > 65_535) throw invalid(text, `the port is ${digits}, expected a number from 0 to 65535`);
  return { kind: 'tcp', host: (bracketed ?? plain) as string, port };
}

const invalid = (text: string, why: string): MigrationError =>
  new MigrationError(
    'INVALID_URI',
    'configure',
    `Invalid address ${JSON.stringify(text)}: ${why}. Expected unix:PATH, tcp:HOST:PORT or - for stdin and stdout`,
  );
