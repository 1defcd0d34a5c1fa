/**
 * Credentials as node:tls takes them: TLS 1.3 and nothing older, both ends prove who they are, and no authority counts but that of the credentials.
 *
 * A PSK in OpenSSL's callbacks is one of SHA-256: with a suite of SHA-384 the key is passed over and the handshake fails, so those are not offered
 * with keys. RFC 8446's psk_dhe_ke is used: who learns a key later cannot read what was said before.
 */
import { isIP } from 'node:net';
import { type ConnectionOptions, checkServerIdentity, type TlsOptions as ServerOptions } from 'node:tls';
import type { Credentials } from './credentials.ts';
import { badCredentials } from './invalid.ts';
import { DEFAULT_PSK_NAME } from './psk.ts';

const TLS_1_3 = { minVersion: 'TLSv1.3', maxVersion: 'TLSv1.3' } as const;
const X509_CIPHERS = 'TLS_AES_256_GCM_SHA384:TLS_AES_128_GCM_SHA256';
const PSK_CIPHERS = 'TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256';

/**
 * For `tls.createServer`; a stream that is no socket goes to its event `connection`. A `TLSSocket` of one's own would never look at the verdict on
 * the client's certificate.
 * @param named is told which key a client shows. It is called once it is known by that name only; that it knows the key is proved when the
 *   handshake is over
 * @throws MigrationError CREDENTIALS_INVALID: there is no certificate for a server
 */
export function serverOptions(credentials: Credentials, named: (pskName: string) => void): ServerOptions {
  if (credentials.kind === 'psk') {
    return {
      ...TLS_1_3,
      ciphers: PSK_CIPHERS,
      pskCallback: (_socket, name) => {
        const key = credentials.keys.get(name);
        if (key) named(name);
        return key ?? null;
      },
    };
  }
  if (!credentials.pair) throw badCredentials('the TLS credentials have no certificate for a server');
  return { ...x509(credentials), ...credentials.pair, requestCert: true, rejectUnauthorized: true };
}

/**
 * For `tls.connect`.
 * @param hostname whom the server's certificate must name; an IP address is one among its IP addresses
 * @throws MigrationError CREDENTIALS_INVALID: there is no key of that name
 */
export function clientOptions(
  credentials: Credentials,
  { hostname, pskName = DEFAULT_PSK_NAME }: { readonly hostname: string; readonly pskName?: string },
): ConnectionOptions {
  if (credentials.kind === 'psk') return pskClient(credentials.keys, pskName);
  return {
    ...x509(credentials),
    ...credentials.pair,
    ...(isIP(hostname) === 0 && { servername: hostname }),
    checkServerIdentity: (_, certificate) => checkServerIdentity(hostname, certificate),
  };
}

function x509({ ca, crl }: Extract<Credentials, { kind: 'x509' }>) {
  return {
    ...TLS_1_3,
    ciphers: X509_CIPHERS,
    ca,
    ...(crl !== undefined && { crl }),
    rejectUnauthorized: true,
  };
}

/** A server that shows a certificate has not proved that it knows the key, whoever signed it. */
function pskClient(keys: ReadonlyMap<string, Uint8Array>, identity: string): ConnectionOptions {
  const psk = keys.get(identity);
  if (!psk) throw badCredentials(`the TLS credentials have no key of the name ${identity}`);
  return {
    ...TLS_1_3,
    ciphers: PSK_CIPHERS,
    ca: [],
    rejectUnauthorized: true,
    pskCallback: () => ({ psk, identity }),
    checkServerIdentity: () => new Error('the server shows a certificate and does not know the key'),
  };
}
