/** Makes credentials out of what was given: a folder, or an object. */
import { createPrivateKey, type KeyObject, X509Certificate } from 'node:crypto';
import { createSecureContext } from 'node:tls';
import type {
  Credentials,
  Pair,
  Pem,
  PskCredentials,
  TlsOptions,
  TlsRole,
  X509Credentials,
} from './credentials.ts';
import { certFile, type FolderFiles, keyFile, MOST_PEM_BYTES, readFolder, tooLarge } from './folder.ts';
import { badCredentials } from './invalid.ts';
import { parsePskFile, pskKeys } from './psk.ts';

/**
 * Reads the credentials of one end and makes sure that TLS can be begun with them. Whether a peer will accept them is not looked at here: that is
 * `checkCredentials`.
 * @throws MigrationError CREDENTIALS_INVALID, PERMISSION_DENIED
 */
export async function loadCredentials(creds: TlsOptions['creds'], role: TlsRole): Promise<Credentials> {
  if (typeof creds === 'string') return fromFolder(creds, await readFolder(creds, [role]), role);
  return 'keys' in creds ? fromKeys(creds) : fromObject(creds, role);
}

/** @throws MigrationError CREDENTIALS_INVALID */
export function fromFolder(folder: string, files: FolderFiles, role: TlsRole): Credentials {
  if (files.kind === 'psk') return { kind: 'psk', keys: parsePskFile(files.keys.text, files.keys.path) };
  const { cert, key } = files.pairs[role];
  const missing = [...(cert ? [] : [certFile(role)]), ...(key ? [] : [keyFile(role)])];
  if (missing.length === 1 || (missing.length > 0 && role === 'server'))
    throw badCredentials(`${folder} has no ${missing.join(' and no ')}, which a TLS ${role} needs`);
  return usable(
    {
      kind: 'x509',
      ca: files.ca.text,
      ...(files.crl && { crl: files.crl.text }),
      ...(cert && key && { pair: { cert: cert.text, key: key.text } }),
    },
    folder,
  );
}

function fromObject({ ca, crl, cert, key }: X509Credentials, role: TlsRole): Credentials {
  if ((cert === undefined) !== (key === undefined) || (cert === undefined && role === 'server'))
    throw badCredentials(`the TLS credentials need cert and key${role === 'client' ? ', or neither' : ''}`);
  return usable(
    {
      kind: 'x509',
      ca: pemText(ca, 'ca'),
      ...(crl !== undefined && { crl: pemText(crl, 'crl') }),
      ...(cert !== undefined &&
        key !== undefined && { pair: { cert: pemText(cert, 'cert'), key: pemText(key, 'key') } }),
    },
    'the TLS credentials',
  );
}

const fromKeys = ({ keys }: PskCredentials): Credentials => ({
  kind: 'psk',
  keys: pskKeys(Object.entries(keys), 'the TLS credentials'),
});

function pemText(pem: Pem, name: string): string {
  if (pem.length > MOST_PEM_BYTES) throw tooLarge(`the TLS credentials' ${name}`, MOST_PEM_BYTES);
  return typeof pem === 'string' ? pem : Buffer.from(pem).toString('utf8');
}

type X509 = Extract<Credentials, { kind: 'x509' }>;

function usable(credentials: X509, where: string): Credentials {
  const { ca, crl, pair } = credentials;
  certificatesIn(ca, `${where}: the CA`);
  if (crl !== undefined) loads({ crl }, `${where}: the CRL cannot be read`);
  if (pair) checkPair(pair, where);
  return credentials;
}

function checkPair(pair: Pair, where: string): void {
  const [own] = certificatesIn(pair.cert, `${where}: the certificate`);
  if (!own.checkPrivateKey(readKey(pair.key, where)))
    throw badCredentials(`${where}: the key belongs to another certificate`);
  loads(pair, `${where}: certificate and key cannot be used`);
}

/**
 * The certificates of a PEM text, in its order.
 * @throws MigrationError CREDENTIALS_INVALID: none, or one that cannot be read
 */
export function certificatesIn(pem: string, what: string): [X509Certificate, ...X509Certificate[]] {
  const texts = pem.match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g) ?? [];
  try {
    const [first, ...rest] = texts.map((text) => new X509Certificate(text));
    if (first) return [first, ...rest];
  } catch (error) {
    throw badCredentials(`${what} cannot be read: ${(error as Error).message}`, error);
  }
  throw badCredentials(`${what} cannot be read: there is no certificate in PEM form`);
}

/** @throws MigrationError CREDENTIALS_INVALID */
export function readKey(pem: string, where: string): KeyObject {
  if (/-----BEGIN ENCRYPTED|^Proc-Type: 4,ENCRYPTED/m.test(pem))
    throw badCredentials(
      `${where}: the key is encrypted, and nobody can be asked for its password. Keep it unencrypted, in a file that only its owner can read`,
    );
  try {
    return createPrivateKey(pem);
  } catch (error) {
    throw badCredentials(`${where}: the key cannot be read: ${(error as Error).message}`, error);
  }
}

function loads(context: { readonly crl: string } | Pair, problem: string): void {
  try {
    createSecureContext(context);
  } catch (error) {
    throw badCredentials(`${problem}: ${(error as Error).message}`, error);
  }
}
