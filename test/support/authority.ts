/** A certificate authority, and the folders that `--tls-creds` takes: for tests and benchmarks. Made by the command openssl. */
import { execFileSync } from 'node:child_process';
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export interface Wanted {
  readonly subject: string;
  readonly names?: string;
  readonly usage: string;
  /** `YYYYMMDDHHMMSSZ` */
  readonly from?: string;
  readonly to?: string;
}

/** Of openssl, so many days from now. */
export const at = (days: number): string =>
  `${new Date(Date.now() + days * 86_400_000).toISOString().replace(/[-:T]/g, '').slice(0, 14)}Z`;

export class Authority {
  readonly folder: string;

  constructor(folder: string, name: string) {
    this.folder = folder;
    mkdirSync(folder);
    writeFileSync(join(folder, 'index.txt'), '');
    writeFileSync(join(folder, 'ca.cnf'), CONFIGURATION);
    this.openssl(
      ...['req', '-x509', ...NEW_KEY, '-days', '30', '-subj', `/CN=${name}`],
      ...['-addext', 'keyUsage=critical,keyCertSign,cRLSign', '-keyout', 'ca-key.pem', '-out', 'ca-cert.pem'],
    );
  }

  openssl(...args: readonly string[]): void {
    execFileSync('openssl', [...args], { cwd: this.folder, stdio: 'pipe' });
  }

  /** Makes NAME-cert.pem and NAME-key.pem. */
  issue(name: string, { subject, names, usage, from = at(-1), to = at(365) }: Wanted): void {
    const extensions = [
      'basicConstraints=critical,CA:FALSE',
      'keyUsage=critical,digitalSignature,keyEncipherment', // older QEMUs refuse a certificate without the second
      `extendedKeyUsage=${usage}`,
      ...(names === undefined ? [] : [`subjectAltName=${names}`]),
    ];
    writeFileSync(join(this.folder, 'extensions'), extensions.join('\n'));
    this.openssl('req', ...NEW_KEY, '-subj', subject, '-keyout', `${name}-key.pem`, '-out', 'request.pem');
    this.openssl(
      ...['ca', '-batch', '-notext', '-config', 'ca.cnf', '-in', 'request.pem', '-out', `${name}-cert.pem`],
      ...['-extfile', 'extensions', '-startdate', from, '-enddate', to],
    );
    chmodSync(join(this.folder, `${name}-key.pem`), 0o600);
  }

  /** The list of what is revoked by now. */
  revocations(file: string): void {
    this.openssl('ca', '-config', 'ca.cnf', '-gencrl', '-out', file);
  }

  revoke(name: string): void {
    this.openssl('ca', '-config', 'ca.cnf', '-revoke', `${name}-cert.pem`);
  }

  /** A folder of its own with some of the files, under other names. */
  set(name: string, files: Readonly<Record<string, string>>): string {
    const folder = join(this.folder, name);
    mkdirSync(folder);
    for (const [to, from] of Object.entries({ 'ca-cert.pem': 'ca-cert.pem', ...files }))
      copyFileSync(join(this.folder, from), join(folder, to));
    return folder;
  }
}

const NEW_KEY = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'] as const;
const CONFIGURATION = `
[ca]
default_ca = here
[here]
database = index.txt
new_certs_dir = .
certificate = ca-cert.pem
private_key = ca-key.pem
rand_serial = yes
unique_subject = no
default_md = sha256
default_crl_days = 30
policy = any
[any]
countryName = optional
organizationName = optional
commonName = optional
`;

/** Whom the servers' certificates name. */
export const HOSTNAME = 'server.example';
export const SERVER = { subject: `/C=NL/O=Example, Inc/CN=${HOSTNAME}`, usage: 'serverAuth' } as const;
export const CLIENT = { subject: '/C=NL/O=Example, Inc/CN=client.example', usage: 'clientAuth' } as const;
export const SERVER_NAMES = `DNS:${HOSTNAME},IP:127.0.0.1,IP:::1`;
export const CLIENT_NAMES =
  'DNS:client.example,IP:192.0.2.7,URI:spiffe://example/client,email:a@client.example';

/** Files of a set, as {@link Authority.set} takes them. */
export const pair = (role: string, from: string = role, key: string = from): Record<string, string> => ({
  [`${role}-cert.pem`]: `${from}-cert.pem`,
  [`${role}-key.pem`]: `${key}-key.pem`,
});

/** A new authority's folder in which everything is right: {@link HOSTNAME} and 127.0.0.1, client.example. `root` is made for it. */
export function x509Folder(root: string): string {
  const authority = new Authority(root, 'Example CA');
  authority.issue('server', { ...SERVER, names: SERVER_NAMES });
  authority.issue('client', { ...CLIENT, names: CLIENT_NAMES });
  return authority.set('set', { ...pair('server'), ...pair('client') });
}

/** A new folder with `keys.psk`. */
export function pskFolder(folder: string, keys: Readonly<Record<string, Buffer>>): string {
  mkdirSync(folder);
  const lines = Object.entries(keys).map(([key, bytes]) => `${key}:${bytes.toString('hex')}\n`);
  writeFileSync(join(folder, 'keys.psk'), lines.join(''), { mode: 0o600 });
  return folder;
}
