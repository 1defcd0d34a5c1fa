/** What docs/security.md tells operators to type is typed here. */
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { checkCredentials } from '../../lib/trust/check/index.ts';
import { loadCredentials } from '../../lib/trust/load.ts';
import { temporaryFolder } from '../support/temp.ts';

const DOCUMENT = readFileSync(new URL('../../docs/security.md', import.meta.url), 'utf8');

/** The document's blocks of that kind, as one script. */
function script(kind: string): string {
  const blocks = [...DOCUMENT.matchAll(/^```sh (\w+)\n([^`]*)^```$/gm)];
  const found = blocks.filter(([, name]) => name === kind).map(([, , lines]) => lines);
  expect(found.length, kind).toBeGreaterThan(0);
  return found.join('');
}

const type = (kind: string, folder: string): void => {
  execFileSync('sh', ['-euc', script(kind)], { cwd: folder, stdio: 'pipe' });
};

const levels = async (folder: string, hostname?: string): Promise<Readonly<Record<string, string>>> => {
  const findings = await checkCredentials(folder, hostname === undefined ? {} : { hostname });
  return Object.fromEntries(
    findings.filter(({ level }) => level !== 'ok').map(({ name, found }) => [name, found]),
  );
};

it('makes certificates with which nothing is wrong, for both ends', async () => {
  await using folder = await temporaryFolder();
  type('credentials', folder.path);
  for (const hostname of ['host-b.example', '192.0.2.7'])
    expect(await levels(folder.path, hostname)).toEqual({});
  await loadCredentials(folder.path, 'server');
  await loadCredentials(folder.path, 'client');
});

it('revokes one of them', async () => {
  await using folder = await temporaryFolder();
  type('credentials', folder.path);
  type('revoking', folder.path);
  expect(await levels(folder.path)).toEqual({ 'tls-handshake': expect.stringContaining('revoked') });
  await rm(join(folder.path, 'ca-crl.pem'));
  expect(await levels(folder.path)).toEqual({});
});

it('makes a key', async () => {
  await using folder = await temporaryFolder();
  type('psk', folder.path);
  expect(await levels(folder.path)).toEqual({});
});
