/** Certificates of all kinds, made by the command openssl, once for each test file that asks. */
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll } from 'vitest';
import {
  Authority,
  at,
  CLIENT,
  CLIENT_NAMES,
  pair,
  pskFolder,
  SERVER,
  SERVER_NAMES,
  type Wanted,
  x509Folder,
} from './authority.ts';

export const PSK_KEY = Buffer.alloc(32, 0x5a);

/** Folders as `--tls-creds` takes them. */
export interface CredentialSets {
  /** Everything is right: server.example and 127.0.0.1, client.example. */
  readonly good: string;
  /** The same, of another authority. */
  readonly otherCa: string;
  /** Both certificates have run out. */
  readonly expired: string;
  /** Both are not valid yet. */
  readonly future: string;
  /** Both run out within a day. */
  readonly soon: string;
  /** The server's certificate names other.example, and no address. */
  readonly wrongName: string;
  /** Neither has an alternative name. */
  readonly nameless: string;
  /** The server's certificate is for a client, and the client's for a server. */
  readonly swapped: string;
  /** Each key is of another certificate. */
  readonly wrongKey: string;
  /** Everybody may read the keys. */
  readonly open: string;
  /** `good`, and the client's certificate is in the list of the revoked ones. */
  readonly revoked: string;
  /** `good`, with a list that revokes nothing. */
  readonly withCrl: string;
  /** The CA and the client's pair alone, and the same with the server's. */
  readonly clientOnly: string;
  readonly serverOnly: string;
  /** The CA alone. */
  readonly caOnly: string;
  /** `keys.psk` with the names qemu and other. */
  readonly psk: string;
  /** `keys.psk` with another key of the name qemu. */
  readonly otherPsk: string;
}

const both = (prefix: string): Record<string, string> => ({
  ...pair('server', `${prefix}-server`),
  ...pair('client', `${prefix}-client`),
});

let made: CredentialSets | undefined;

/** To be called at the top of a test file; they are gone when it has ended. */
export function credentialSets(): CredentialSets {
  if (made) return made;
  const root = mkdtempSync(join(tmpdir(), 'rdma-migrate-credentials-'));
  afterAll(() => {
    made = undefined;
    rmSync(root, { recursive: true, force: true });
  });
  made = make(root);
  return made;
}

/** Text of a file of a set. */
export const pem = (folder: string, file: string): string => readFileSync(join(folder, file), 'utf8');

function make(root: string): CredentialSets {
  const ca = new Authority(join(root, 'ca'), 'Example CA');
  const issueBoth = (prefix: string, more: Partial<Wanted>): void => {
    ca.issue(`${prefix}-server`, { ...SERVER, names: SERVER_NAMES, ...more });
    ca.issue(`${prefix}-client`, { ...CLIENT, names: CLIENT_NAMES, ...more });
  };
  ca.issue('server', { ...SERVER, names: SERVER_NAMES });
  ca.issue('client', { ...CLIENT, names: CLIENT_NAMES });
  issueBoth('expired', { from: at(-20), to: at(-10) });
  issueBoth('future', { from: at(10), to: at(20) });
  issueBoth('soon', { to: at(0.5) });
  ca.issue('wrongname-server', { ...SERVER, names: 'DNS:other.example' });
  ca.issue('nameless-server', SERVER);
  ca.issue('nameless-client', CLIENT);
  const good = { ...pair('server'), ...pair('client') };
  ca.revocations('empty-crl.pem');
  ca.revoke('client');
  ca.revocations('full-crl.pem');
  const open = ca.set('set-open', good);
  for (const role of ['server', 'client']) chmodSync(join(open, `${role}-key.pem`), 0o644);
  return {
    good: ca.set('set-good', good),
    otherCa: x509Folder(join(root, 'other')),
    expired: ca.set('set-expired', both('expired')),
    future: ca.set('set-future', both('future')),
    soon: ca.set('set-soon', both('soon')),
    wrongName: ca.set('set-wrong-name', { ...pair('server', 'wrongname-server'), ...pair('client') }),
    nameless: ca.set('set-nameless', both('nameless')),
    swapped: ca.set('set-swapped', { ...pair('server', 'client'), ...pair('client', 'server') }),
    wrongKey: ca.set('set-wrong-key', {
      ...pair('server', 'server', 'client'),
      ...pair('client', 'client', 'server'),
    }),
    open,
    revoked: ca.set('set-revoked', { ...good, 'ca-crl.pem': 'full-crl.pem' }),
    withCrl: ca.set('set-with-crl', { ...good, 'ca-crl.pem': 'empty-crl.pem' }),
    clientOnly: ca.set('set-client-only', pair('client')),
    serverOnly: ca.set('set-server-only', pair('server')),
    caOnly: ca.set('set-ca-only', {}),
    psk: pskFolder(join(root, 'psk'), { qemu: PSK_KEY, other: Buffer.alloc(32, 1) }),
    otherPsk: pskFolder(join(root, 'other-psk'), { qemu: Buffer.alloc(32, 2) }),
  };
}
