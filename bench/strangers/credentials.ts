/** Credentials of both ends, and those of somebody whom they do not know; made by the command openssl. */
import { mkdtempSync, readFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Authority, pair } from '../../test/support/authority.ts';
import { ownPath } from '../support/leftovers.ts';

/** A certificate and its key, PEM. */
export interface Shown {
  readonly cert: string;
  readonly key: string;
}

export interface MadeCredentials {
  /** For both ends; the destination is 127.0.0.1. */
  readonly folder: string;
  readonly strange: Shown;
}

export function makeCredentials(): MadeCredentials {
  const root = ownPath(mkdtempSync(join(tmpdir(), 'rdma-migrate-bench-')));
  const ours = new Authority(join(root, 'ours'), 'Bench CA');
  ours.issue('server', { subject: '/CN=destination', names: 'IP:127.0.0.1', usage: 'serverAuth' });
  ours.issue('client', { subject: '/CN=source', usage: 'clientAuth' });
  const theirs = new Authority(join(root, 'theirs'), 'Another CA');
  theirs.issue('client', { subject: '/CN=source', usage: 'clientAuth' });
  const read = (file: string): string => readFileSync(join(theirs.folder, file), 'utf8');
  return {
    folder: ours.set('set', { ...pair('server'), ...pair('client') }),
    strange: { cert: read('client-cert.pem'), key: read('client-key.pem') },
  };
}
