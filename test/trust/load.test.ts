/** Credentials as an operator or embedder gives them; every one that cannot be used is refused before anything is opened. */
import { execFileSync } from 'node:child_process';
import { chmod, copyFile, mkdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import type { TlsOptions, TlsRole } from '../../lib/trust/credentials.ts';
import { loadCredentials } from '../../lib/trust/load.ts';
import { parsePskFile } from '../../lib/trust/psk.ts';
import { credentialSets, PSK_KEY, pem } from '../support/credentials.ts';
import { temporaryFolder } from '../support/temp.ts';

const sets = credentialSets();

const refused = (creds: TlsOptions['creds'], role: TlsRole, message: RegExp) =>
  expect(loadCredentials(creds, role)).rejects.toMatchObject({
    code: 'CREDENTIALS_INVALID',
    phase: 'configure',
    message: expect.stringMatching(message),
  });

/** A copy of `good` that a test changes. */
async function changed(
  change: (folder: string) => Promise<unknown>,
  test: (folder: string) => Promise<unknown>,
) {
  await using folder = await temporaryFolder();
  for (const file of [
    'ca-cert.pem',
    'server-cert.pem',
    'server-key.pem',
    'client-cert.pem',
    'client-key.pem',
  ])
    await copyFile(join(sets.good, file), join(folder.path, file));
  await change(folder.path);
  await test(folder.path);
}

describe('a folder of certificates', () => {
  it('gives a server and a client their own pair', async () => {
    for (const role of ['server', 'client'] as const) {
      const credentials = await loadCredentials(sets.good, role);
      expect(credentials).toMatchObject({
        kind: 'x509',
        ca: pem(sets.good, 'ca-cert.pem'),
        pair: { cert: pem(sets.good, `${role}-cert.pem`), key: pem(sets.good, `${role}-key.pem`) },
      });
      expect(credentials).not.toHaveProperty('crl');
    }
    expect(await loadCredentials(sets.withCrl, 'server')).toHaveProperty('crl');
  });

  it('needs a pair for a server only', async () => {
    expect(await loadCredentials(sets.caOnly, 'client')).not.toHaveProperty('pair');
    await loadCredentials(sets.clientOnly, 'client');
    await refused(sets.clientOnly, 'server', /no server-cert\.pem and no server-key\.pem/);
  });

  it('is refused where a key is missing, is another one, or is encrypted', async () => {
    await changed(
      (folder) => rm(join(folder, 'client-key.pem')),
      (folder) => refused(folder, 'client', /no client-key\.pem/),
    );
    await refused(sets.wrongKey, 'server', /key belongs to another certificate/);
    const encrypt = async (folder: string) => {
      const key = join(folder, 'server-key.pem');
      execFileSync('openssl', ['pkcs8', '-topk8', '-in', key, '-out', `${key}.new`, '-passout', 'pass:x']);
      await copyFile(`${key}.new`, key);
    };
    await changed(encrypt, (folder) => refused(folder, 'server', /encrypted/));
  });

  it.each(['ca-cert.pem', 'ca-crl.pem', 'server-cert.pem', 'server-key.pem'])(
    'is refused where %s is something else',
    async (file) => {
      const contents = ['', 'nonsense', '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n'];
      for (const content of contents)
        await changed(
          (folder) => writeFile(join(folder, file), content),
          (folder) => refused(folder, 'server', /cannot be (read|used)/),
        );
      await changed(
        (folder) => writeFile(join(folder, file), '').then(() => truncate(join(folder, file), 257 << 10)),
        (folder) => refused(folder, 'server', /more than 256 KiB/),
      );
    },
  );

  it('is refused where a file is a folder or a FIFO, at once', async () => {
    await changed(
      async (folder) => {
        await rm(join(folder, 'ca-cert.pem'));
        execFileSync('mkfifo', [join(folder, 'ca-cert.pem')]);
      },
      (folder) => refused(folder, 'server', /is not a file/),
    );
    await changed(
      async (folder) => {
        await rm(join(folder, 'ca-cert.pem'));
        await mkdir(join(folder, 'ca-cert.pem'));
      },
      (folder) => refused(folder, 'server', /is not a file/),
    );
  });

  it('is refused where there is none, or two kinds', async () => {
    await refused('/nonexistent/folder', 'client', /neither ca-cert\.pem nor keys\.psk/);
    await changed(
      (folder) => copyFile(join(sets.psk, 'keys.psk'), join(folder, 'keys.psk')),
      (folder) => refused(folder, 'client', /not known which counts/),
    );
  });

  it.skipIf(process.getuid?.() === 0)('that may not be read is said to be so', async () => {
    await changed(
      (folder) => chmod(join(folder, 'server-key.pem'), 0),
      (folder) =>
        expect(loadCredentials(folder, 'server')).rejects.toMatchObject({ code: 'PERMISSION_DENIED' }),
    );
  });
});

describe('objects', () => {
  it('give the same as a folder, as text or bytes', async () => {
    const [ca, cert, key] = ['ca-cert.pem', 'server-cert.pem', 'server-key.pem'].map((file) =>
      pem(sets.good, file),
    );
    const folder = await loadCredentials(sets.good, 'server');
    expect(await loadCredentials({ ca: ca ?? '', cert: cert ?? '', key: key ?? '' }, 'server')).toEqual(
      folder,
    );
    const bytes = { ca: Buffer.from(ca ?? ''), cert: Buffer.from(cert ?? ''), key: Buffer.from(key ?? '') };
    expect(await loadCredentials(bytes, 'server')).toEqual(folder);
  });

  it('are refused where half of a pair is missing', async () => {
    const ca = pem(sets.good, 'ca-cert.pem');
    const cert = pem(sets.good, 'client-cert.pem');
    await refused({ ca }, 'server', /need cert and key/);
    await refused({ ca, cert }, 'client', /need cert and key, or neither/);
  });

  it('may be keys, whose bytes are copied', async () => {
    const key = Uint8Array.from(PSK_KEY);
    const credentials = await loadCredentials({ keys: { qemu: key } }, 'server');
    key.fill(0);
    expect(credentials).toEqual({ kind: 'psk', keys: new Map([['qemu', Uint8Array.from(PSK_KEY)]]) });
    expect(await loadCredentials({ keys: { qemu: PSK_KEY.toString('hex') } }, 'server')).toEqual(credentials);
    await refused({ keys: {} }, 'server', /0 keys/);
    await refused({ keys: { qemu: 7 as unknown as string } }, 'server', /not hexadecimal/);
  });
});

describe('keys.psk', () => {
  const HEX = PSK_KEY.toString('hex');
  it('has a name and a key in each line', async () => {
    expect([...parsePskFile(`qemu:${HEX}\r\n\nhost b:${HEX.toUpperCase()}`, 'f').keys()]).toEqual([
      'qemu',
      'host b',
    ]);
    expect(await loadCredentials(sets.psk, 'client')).toMatchObject({ kind: 'psk' });
  });

  it.each([
    ['', /0 keys/],
    [HEX, /line 1: expected name:hexkey/],
    [`:${HEX}`, /a name that cannot be used/],
    [`#71:${HEX}`, /a name that cannot be used/],
    [`a\u0000:${HEX}`, /a name that cannot be used/],
    [`${'x'.repeat(129)}:${HEX}`, /a name that cannot be used/],
    [`a:b:${HEX}`, /a name that cannot be used/],
    [`a:${HEX}\na:${HEX}`, /two keys of the name a/],
    [`a:${HEX}z`, /is not hexadecimal/],
    [`a:${HEX.slice(1)}`, /is not hexadecimal/],
    [`a:${HEX.slice(0, 30)}`, /has 15 bytes: expected 16 to 64/],
    [`a:${HEX.repeat(3)}`, /has 96 bytes/],
    [`a${'\n'.repeat(3)}`, /line 1/],
  ])('is refused: %j', (text, message) => {
    expect(() => parsePskFile(text, 'keys.psk')).toThrow(message);
    expect(() => parsePskFile(text, 'keys.psk')).not.toThrow(HEX);
  });
});
