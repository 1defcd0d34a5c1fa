/** The options of TLS, as they are checked before anything is opened. What they mean is in credentials.ts. */
import type { Rule } from '../options/check.ts';
import { field, fn, listOf, optionsOf, type ShapeOf, text } from '../options/fields.ts';
import type { SourceTlsOptions, TlsOptions } from './credentials.ts';

const TLS = {
  creds: field('a folder, or an object { ca, cert, key, crl } or { keys }', isCredentials),
  pskName: text,
  authz: listOf(text),
  authorize: fn,
} satisfies ShapeOf<TlsOptions>;

export const tlsOptions = optionsOf(TLS);
export const sourceTlsOptions = optionsOf({ ...TLS, hostname: text } satisfies ShapeOf<SourceTlsOptions>);

/** All options are optional for the schema; this one is not. */
export const hasCredentials: Rule<{ readonly tls?: Partial<TlsOptions> }> = ({ tls }, name) =>
  tls !== undefined && tls.creds === undefined
    ? `${name('tls.creds')} is missing: without credentials nobody can prove anything`
    : undefined;

function isCredentials(value: unknown): boolean {
  if (typeof value === 'string') return /^[^\0\n]+$/.test(value);
  if (typeof value !== 'object' || value === null) return false;
  if ('keys' in value) return Object.keys(value).length === 1 && isKeys(value.keys);
  return 'ca' in value && Object.entries(value).every(([name, part]) => X509.includes(name) && isPem(part));
}

const X509 = ['ca', 'crl', 'cert', 'key'];

const isPem = (value: unknown): boolean => typeof value === 'string' || value instanceof Uint8Array;

const isKeys = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && Object.values(value).every(isPem);
