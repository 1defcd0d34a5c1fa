/** Who may take part, of all that have proved who they are. */
import { X509Certificate } from 'node:crypto';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { AllowedAddresses, parseNetwork } from '../../lib/trust/allow.ts';
import { authorizePeer, describePeer } from '../../lib/trust/authorize.ts';
import type { Authorize } from '../../lib/trust/credentials.ts';
import { alternativeNames, commonNames } from '../../lib/trust/names.ts';
import { credentialSets, pem } from '../support/credentials.ts';

const certificate = new X509Certificate(pem(credentialSets().good, 'client-cert.pem'));
const peer = describePeer(certificate);
/** What a promise of another library may be. */
const thenable = (then: (settle: (value: unknown) => void) => void): unknown =>
  Object.defineProperty({}, 'then', { value: then });

const refusal = { code: 'NOT_AUTHORIZED', phase: 'negotiate' };

describe('authz', () => {
  it.each([
    'CN=client.example,O=Example\\, Inc,C=NL',
    'C=NL,O=Example\\, Inc,CN=client.example',
    'client.example',
    'CLIENT.example',
    '192.0.2.7',
    'spiffe://example/client',
    'a@client.example',
  ])('lets in %s', async (name) => {
    await authorizePeer(peer, { authz: ['somebody else', name] });
  });

  it.each([
    'CN=client.example',
    'O=Example\\, Inc',
    'C=NL',
    'Example, Inc',
    'client',
    'client.example.',
    '*.example',
    'client.*',
    'CN=*',
    '192.0.2.70',
    'DNS:client.example',
    'spiffe://example/client/more',
    '',
    ' ',
  ])('does not let in %j', async (name) => {
    await expect(authorizePeer(peer, { authz: [name] })).rejects.toMatchObject({
      ...refusal,
      message: expect.stringContaining('CN=client.example,O=Example\\, Inc,C=NL is not among'),
    });
  });

  it('that is empty lets nobody in', async () => {
    await expect(authorizePeer(peer, { authz: [] })).rejects.toMatchObject(refusal);
  });

  it('names keys', async () => {
    const withKey = describePeer(undefined, 'qemu');
    await authorizePeer(withKey, { authz: ['qemu'] });
    await expect(authorizePeer(withKey, { authz: ['Qemu', ''] })).rejects.toMatchObject(refusal);
    await expect(authorizePeer(describePeer(undefined), { authz: ['', 'undefined'] })).rejects.toMatchObject(
      refusal,
    );
  });
});

describe('authorize', () => {
  afterEach(() => vi.useRealTimers());

  it('is shown the certificate, and lets in by true alone', async () => {
    const authorize = vi.fn<Authorize>(async ({ subject, names, certificate: shown }) => {
      expect(subject).toBe('CN=client.example,O=Example\\, Inc,C=NL');
      expect(names).toContain('IP Address:192.0.2.7');
      expect(shown?.fingerprint256).toBe(certificate.fingerprint256);
      return true;
    });
    await authorizePeer(peer, { authorize });
    expect(authorize).toHaveBeenCalledOnce();
  });

  it('is not asked about whom authz does not name', async () => {
    const authorize = vi.fn<Authorize>(() => true);
    await expect(authorizePeer(peer, { authz: [], authorize })).rejects.toMatchObject(refusal);
    expect(authorize).not.toHaveBeenCalled();
  });

  it.each<[string, () => unknown]>([
    ['says false', () => false],
    ['says nothing', () => undefined],
    ['says 1', () => 1],
    ['says "true"', async () => 'true'],
    ['gives an object', () => ({ valueOf: () => true })],
    ['gives another Boolean', () => new Boolean(true)],
    [
      'throws',
      () => {
        throw new Error('no');
      },
    ],
    [
      'throws nothing',
      () => {
        throw undefined;
      },
    ],
    [
      'throws what has no words',
      () => {
        throw Object.create(null);
      },
    ],
    ['rejects', () => Promise.reject(new Error('no'))],
    [
      'gives a thenable that throws',
      () =>
        thenable(() => {
          throw new Error('no');
        }),
    ],
    [
      'gives a thenable that settles twice',
      () =>
        thenable((settle) => {
          settle(false);
          settle(true);
        }),
    ],
  ])('that %s refuses', async (_, authorize) => {
    await expect(authorizePeer(peer, { authorize: authorize as Authorize })).rejects.toMatchObject(refusal);
  });

  it('that never answers refuses when its time is over', async () => {
    vi.useFakeTimers();
    const end = authorizePeer(peer, { authorize: () => new Promise(() => {}) });
    const refused = expect(end).rejects.toMatchObject({
      ...refusal,
      message: expect.stringMatching(/within 10 s/),
    });
    await vi.advanceTimersByTimeAsync(10_000);
    await refused;
  });
});

describe('names', () => {
  const of = (subject: string | undefined, subjectAltName?: string) =>
    ({ subject, subjectAltName }) as unknown as X509Certificate;

  it('cannot be forged by what stands in another name', () => {
    expect(alternativeNames(of('', 'DNS:a, DNS:"b, URI:c", IP Address:192.0.2.1'))).toEqual([
      'DNS:a',
      'DNS:b, URI:c',
      'IP Address:192.0.2.1',
    ]);
    expect(alternativeNames(of('', 'DNS:"a\\", DNS:b"'))).toEqual(['DNS:a", DNS:b']);
    expect(alternativeNames(of('', 'DNS:a, b, DNS:c'))).toEqual(['DNS:a']);
    expect(alternativeNames(of('', undefined))).toEqual([]);
    expect(commonNames(of('O=x + CN=a\nO=CN=b\nCN=c\\, CN=d\nCN=e'))).toEqual(['a', 'e']);
    expect(commonNames(of(undefined))).toEqual([]);
  });
});

describe('allow', () => {
  it('has addresses and networks of both kinds', () => {
    const list = new AllowedAddresses(['192.0.2.0/24', '198.51.100.7', '2001:db8::/32', '::1']);
    for (const peer of [
      '192.0.2.200:4444',
      '198.51.100.7:1',
      '[2001:db8:7::1]:4444',
      '[::1]:1',
      '[::ffff:192.0.2.9]:1',
      '[2001:db8::1%eth0]:1',
    ])
      expect(list.hasPeer(peer), peer).toBe(true);
    for (const peer of [
      '192.0.3.1:4444',
      '198.51.100.8:1',
      '[2001:db9::1]:1',
      '[::2]:1',
      '[::ffff:198.51.100.8]:1',
      'localhost:1',
      '',
      ':',
      '[192.0.2.1',
    ])
      expect(list.hasPeer(peer), peer).toBe(false);
  });

  it('that is empty has nobody', () => {
    expect(new AllowedAddresses([]).hasPeer('127.0.0.1:1')).toBe(false);
  });

  it.each([
    '',
    '*',
    'localhost',
    '192.0.2',
    '192.0.2.0/33',
    '192.0.2.0/',
    '192.0.2.0/-1',
    '::/129',
    '/8',
    'fe80::1%eth0',
    '192.0.2.1:4444',
    ' ::1',
    7,
    undefined,
  ])('has no %j', (entry) => {
    expect(parseNetwork(entry)).toBeUndefined();
  });
});
