/** What the checks find in folders that are good, and in those that each have one thing wrong. */
import { copyFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { checkTls } from '../../lib/doctor/tls.ts';
import { checkCredentials, type Finding } from '../../lib/trust/check/index.ts';
import { credentialSets, PSK_KEY } from '../support/credentials.ts';
import { temporaryFolder } from '../support/temp.ts';

const sets = credentialSets();

/** Those that are not ok, in a line each; every one has a remedy. */
function problems(findings: readonly Finding[]): readonly string[] {
  const bad = findings.filter(({ level }) => level !== 'ok');
  for (const { remedy, found, name } of bad) expect([remedy, found], name).not.toContain('');
  return bad.map(({ name, level, found }) => `${level} ${name}: ${found}`);
}

describe('certificates', () => {
  it('that are good have nothing wrong with them, and were tried out', async () => {
    for (const folder of [sets.good, sets.otherCa, sets.withCrl]) {
      const findings = await checkCredentials(folder, { hostname: 'server.example' });
      expect(problems(findings)).toEqual([]);
      expect(findings.map(({ name }) => name)).toEqual([
        'tls-credentials',
        ...['chain', 'dates', 'key', 'purpose', 'names'].map((what) => `tls-server-${what}`),
        'tls-key-mode',
        ...['chain', 'dates', 'key', 'purpose', 'names'].map((what) => `tls-client-${what}`),
        'tls-key-mode',
        'tls-handshake',
      ]);
    }
  });

  it('of one end alone are good too', async () => {
    expect(problems(await checkCredentials(sets.clientOnly))).toEqual([]);
    expect(problems(await checkCredentials(sets.serverOnly, { hostname: '127.0.0.1' }))).toEqual([]);
  });

  it.each<[string, string, readonly RegExp[]]>([
    ['expired', sets.expired, [/^fail tls-server-dates: expired on/, /^fail tls-client-dates: expired on/]],
    ['not valid yet', sets.future, [/^fail tls-server-dates: not valid before/, /^fail tls-client-dates/]],
    [
      'about to expire',
      sets.soon,
      [/^warning tls-server-dates: .*less than a day left/, /^warning tls-client-dates/],
    ],
    ['without names', sets.nameless, [/^warning tls-server-names: it has no alternative name/]],
    [
      'each for the other end',
      sets.swapped,
      [/^fail tls-server-purpose: .*serverAuth/, /^fail tls-client-purpose: .*clientAuth/],
    ],
    [
      'with each other’s keys',
      sets.wrongKey,
      [/^fail tls-server-key: .*another certificate/, /^fail tls-client-key/],
    ],
    [
      'with keys that everybody may read',
      sets.open,
      [/^fail tls-key-mode: .*server-key\.pem has mode 0644/, /^fail tls-key-mode: .*client-key/],
    ],
    ['of which one is revoked', sets.revoked, [/^fail tls-handshake: .*revoked/]],
    ['of nobody', sets.caOnly, [/^fail tls-credentials: .*no certificate of this host/]],
    ['that are not there', '/nonexistent', [/^fail tls-credentials: .*neither/]],
  ])('%s', async (_, folder, expected) => {
    const found = problems(await checkCredentials(folder));
    expect(found).toHaveLength(expected.length);
    for (const [index, pattern] of expected.entries()) expect(found[index]).toMatch(pattern);
  });

  it('that name another host than they should', async () => {
    expect(problems(await checkCredentials(sets.wrongName, { hostname: 'server.example' }))).toEqual([
      expect.stringMatching(/^fail tls-server-names: DNS:other\.example: not server\.example/),
    ]);
    expect(problems(await checkCredentials(sets.good, { hostname: '192.0.2.1' }))).toEqual([
      expect.stringMatching(/^fail tls-server-names: .*not 192\.0\.2\.1/),
    ]);
  });

  it('of another authority than the one beside them', async () => {
    await using folder = await temporaryFolder();
    for (const file of ['server-cert.pem', 'server-key.pem'])
      await copyFile(join(sets.good, file), join(folder.path, file));
    await copyFile(join(sets.otherCa, 'ca-cert.pem'), join(folder.path, 'ca-cert.pem'));
    expect(problems(await checkCredentials(folder.path))).toContainEqual(
      expect.stringMatching(/^fail tls-server-chain: CN=server\.example,.*not signed by an authority/),
    );
  });

  it('that were good, on another day', async () => {
    const later = new Date(Date.now() + 400 * 86_400_000);
    expect(problems(await checkCredentials(sets.clientOnly, { now: later }))).toEqual([
      expect.stringMatching(/^fail tls-client-dates: expired/),
    ]);
  });

  it('with files that are something else: it is said, and nothing is thrown', async () => {
    for (const file of [
      'ca-cert.pem',
      'ca-crl.pem',
      'server-cert.pem',
      'server-key.pem',
      'client-cert.pem',
    ]) {
      await using folder = await temporaryFolder();
      for (const name of [
        'ca-cert.pem',
        'server-cert.pem',
        'server-key.pem',
        'client-cert.pem',
        'client-key.pem',
      ])
        await copyFile(join(sets.good, name), join(folder.path, name));
      await writeFile(join(folder.path, file), 'nonsense');
      expect(problems(await checkCredentials(folder.path)), file).toEqual([
        expect.stringMatching(/^fail tls-credentials: .*cannot be read/),
      ]);
    }
  });
});

describe('keys', () => {
  const of = async (text: string, mode = 0o600): Promise<readonly string[]> => {
    await using folder = await temporaryFolder();
    await writeFile(join(folder.path, 'keys.psk'), text, { mode });
    return problems(await checkCredentials(folder.path));
  };
  const HEX = PSK_KEY.toString('hex');

  it('that are good were tried out', async () => {
    const findings = await checkCredentials(sets.psk);
    expect(problems(findings)).toEqual([]);
    expect(findings.map(({ name }) => name)).toEqual(['tls-psk', 'tls-key-mode', 'tls-handshake']);
  });

  it('that are not', async () => {
    expect(await of(`qemu:${HEX}`, 0o644)).toEqual([expect.stringMatching(/^fail tls-key-mode: .*0644/)]);
    expect(await of(`qemu:${HEX}`, 0o640)).toEqual([]);
    expect(await of(`qemu:${HEX.slice(32)}`)).toEqual([
      expect.stringMatching(/^warning tls-psk: .*shorter than 32/),
    ]);
    expect(await of(`host-a:${HEX}`)).toEqual([
      expect.stringMatching(/^warning tls-psk: .*none of the name qemu/),
    ]);
    expect(await of('nonsense')).toEqual([expect.stringMatching(/^fail tls-psk: .*name:hexkey/)]);
  });
});

describe('doctor', () => {
  it('shows each as a check, and cannot do without any', async () => {
    const good = await checkTls(sets.good);
    expect(good.every(({ status, essential }) => status === 'ok' && essential)).toBe(true);
    const bad = (await checkTls(sets.expired)).filter(({ status }) => status !== 'ok');
    expect(bad[0]).toMatchObject({
      name: 'tls-server-dates',
      status: 'missing',
      essential: true,
      remedy: expect.stringContaining('docs/security.md'),
    });
    const soon = (await checkTls(sets.soon)).filter(({ status }) => status !== 'ok');
    expect(soon[0]).toMatchObject({ status: 'warning', essential: false });
  });
});
