/** What is wrong with a folder of credentials, before a migration finds out. */
import { toMigrationError } from '../../errors.ts';
import type { Credentials, TlsRole } from '../credentials.ts';
import { type FolderFiles, readFolder } from '../folder.ts';
import { certificatesIn, fromFolder, readKey } from '../load.ts';
import { alternativeNames } from '../names.ts';
import { DEFAULT_PSK_NAME } from '../psk.ts';
import { examineCertificate } from './certificate.ts';
import { type Finding, finding, MAKE_ANEW } from './finding.ts';
import { rehearse } from './rehearse.ts';
import { checkMode, checkPskFile } from './secrets.ts';

export type { Finding } from './finding.ts';

export interface CheckCredentialsOptions {
  /** Whom the server's certificate has to name. Default: anybody. */
  readonly hostname?: string;
  /** Default: now. */
  readonly now?: Date;
  readonly signal?: AbortSignal;
}

const ROLES: readonly TlsRole[] = ['server', 'client'];
const WHOLE = ['tls-credentials', 'TLS credentials'] as const;

/** Looks at all that a folder holds, for whichever end. Never throws: what cannot be read is a finding too. */
export async function checkCredentials(
  folder: string,
  options: CheckCredentialsOptions = {},
): Promise<readonly Finding[]> {
  try {
    const files = await readFolder(folder, ROLES);
    return files.kind === 'psk'
      ? await checkKeys(folder, files, options)
      : await checkPairs(folder, files, options);
  } catch (error) {
    return [unusable(error)];
  }
}

function unusable(error: unknown): Finding {
  const { message } = toMigrationError(error, 'configure');
  return finding(...WHOLE).fail(message, MAKE_ANEW);
}

async function checkKeys(
  folder: string,
  files: Extract<FolderFiles, { kind: 'psk' }>,
  { signal }: CheckCredentialsOptions,
): Promise<readonly Finding[]> {
  const findings = [checkPskFile(files.keys), checkMode(files.keys)];
  if (findings[0]?.level === 'fail') return findings;
  const credentials = fromFolder(folder, files, 'client') as Extract<Credentials, { kind: 'psk' }>;
  const [first = DEFAULT_PSK_NAME] = credentials.keys.keys();
  const names = { hostname: '', pskName: credentials.keys.has(DEFAULT_PSK_NAME) ? DEFAULT_PSK_NAME : first };
  return [...findings, await rehearse({ client: credentials, server: credentials }, names, signal)];
}

async function checkPairs(
  folder: string,
  files: Extract<FolderFiles, { kind: 'x509' }>,
  { hostname, now = new Date(), signal }: CheckCredentialsOptions,
): Promise<readonly Finding[]> {
  const authorities = certificatesIn(files.ca.text, files.ca.path);
  const there = ROLES.filter((role) => files.pairs[role].cert || files.pairs[role].key);
  const findings = there.flatMap((role) => {
    const { cert, key } = files.pairs[role];
    if (!cert || !key)
      return attempts(() => {
        fromFolder(folder, files, role);
        return [];
      });
    return [
      ...attempts(() => {
        const sent = certificatesIn(cert.text, cert.path);
        const own = { role, sent, key: readKey(key.text, key.path), authorities, now };
        return examineCertificate({ ...own, ...(hostname !== undefined && { hostname }) });
      }),
      checkMode(key),
    ];
  });
  const whole = overview(folder, there, files.crl !== undefined);
  if (findings.some(({ level }) => level === 'fail')) return [whole, ...findings];
  return [whole, ...findings, ...(await tried(folder, files, { hostname, signal }))];
}

function overview(folder: string, there: readonly TlsRole[], crl: boolean): Finding {
  const judged = finding(...WHOLE);
  if (there.length > 0)
    return judged.ok(`${folder}: certificates for ${there.join(' and ')}${crl ? ', and a CRL' : ''}`);
  return judged.fail(
    `${folder} has an authority (ca-cert.pem) and no certificate of this host: the other end refuses whoever shows none`,
    'put server-cert.pem and server-key.pem there for receiving, client-cert.pem and client-key.pem for sending',
  );
}

/** What it finds, or why it cannot be used. */
function attempts(examine: () => readonly Finding[]): readonly Finding[] {
  try {
    return examine();
  } catch (error) {
    return [unusable(error)];
  }
}

/** Only where both ends are there, and the server has a name. */
async function tried(
  folder: string,
  files: Extract<FolderFiles, { kind: 'x509' }>,
  { hostname, signal }: { readonly hostname: string | undefined; readonly signal: AbortSignal | undefined },
): Promise<readonly Finding[]> {
  const { client, server } = files.pairs;
  const name = hostname ?? nameOf(server.cert?.text);
  if (!client.cert || !server.cert || name === undefined) return [];
  const ends = { client: fromFolder(folder, files, 'client'), server: fromFolder(folder, files, 'server') };
  return [await rehearse(ends, { hostname: name }, signal)];
}

function nameOf(cert: string | undefined): string | undefined {
  if (cert === undefined) return undefined;
  const names = alternativeNames(certificatesIn(cert, 'the certificate')[0]);
  return names
    .map((name) => /^(?:DNS|IP Address):(.*)$/.exec(name)?.[1])
    .find((name) => name && !name.startsWith('*'));
}
