/** TLS 1.3 over streams that are no sockets: what node:tls and OpenSSL do there is what everything else here rests on. */
import { connect, createServer } from 'node:tls';
import { describe, expect, it } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import { type Exporter, handshake, type Proven, type Trust } from '../../lib/trust/handshake.ts';
import { loadCredentials } from '../../lib/trust/load.ts';
import { credentialSets, pem } from '../support/credentials.ts';
import { PATIENCE_MS } from '../support/patience.ts';
import { duplexPair } from './duplex-pair.ts';

const sets = credentialSets();
const EXPORTER: Exporter = { label: 'EXPERIMENTAL test', context: Buffer.from('flags'), length: 64 };
const HOSTNAME = 'server.example';

interface Sides {
  readonly server: string;
  readonly client: string;
  readonly serverTrust?: Partial<Trust>;
  readonly clientTrust?: Partial<Trust>;
  readonly contexts?: readonly [Buffer, Buffer];
}

const outcome = (end: Promise<Proven>): Promise<Proven | MigrationError> =>
  end.catch((error: unknown) => {
    expect(error).toBeInstanceOf(MigrationError);
    return error as MigrationError;
  });

async function both({ server, client, serverTrust, clientTrust, contexts }: Sides) {
  const [serverEnd, clientEnd] = duplexPair();
  const of = async (role: Trust['role'], folder: string): Promise<Trust> => ({
    role,
    credentials: await loadCredentials(folder, role),
    hostname: HOSTNAME,
  });
  const limits = { timeoutMs: 10_000 };
  const [serverExporter, clientExporter] = [0, 1].map((end) => ({
    ...EXPORTER,
    context: contexts?.[end] ?? EXPORTER.context,
  })) as [Exporter, Exporter];
  const ends = await Promise.all([
    outcome(
      handshake(serverEnd, { ...(await of('server', server)), ...serverTrust }, serverExporter, limits),
    ),
    outcome(
      handshake(clientEnd, { ...(await of('client', client)), ...clientTrust }, clientExporter, limits),
    ),
  ]);
  expect([serverEnd.destroyed, clientEnd.destroyed]).toEqual([true, true]);
  return { server: ends[0], client: ends[1] };
}

function proven(end: Proven | MigrationError): Proven {
  if (end instanceof MigrationError) throw end;
  return end;
}

/** Fails at both ends; the codes and messages. */
async function fails(sides: Sides): Promise<{ server: MigrationError; client: MigrationError }> {
  const { server, client } = await both(sides);
  expect(server).toBeInstanceOf(MigrationError);
  expect(client).toBeInstanceOf(MigrationError);
  return { server: server as MigrationError, client: client as MigrationError };
}

describe('certificates', () => {
  it('prove both ends to each other, and leave keys that both have', async () => {
    const { server, client } = await both({ server: sets.good, client: sets.good });
    expect(proven(server).peer).toMatchObject({
      subject: 'CN=client.example,O=Example\\, Inc,C=NL',
      names: expect.arrayContaining(['DNS:client.example', 'URI:spiffe://example/client']),
    });
    expect(proven(client).peer.subject).toBe('CN=server.example,O=Example\\, Inc,C=NL');
    expect(proven(server).keyingMaterial).toEqual(proven(client).keyingMaterial);
    expect(proven(server).keyingMaterial).toHaveLength(64);
    expect(proven(server).cipher).toBe('TLS_AES_256_GCM_SHA384');
  });

  it('leave other keys where the ends have seen other things before', async () => {
    const contexts = [Buffer.from('a'), Buffer.from('b')] as const;
    const { server, client } = await both({ server: sets.good, client: sets.good, contexts });
    expect(proven(server).keyingMaterial).not.toEqual(proven(client).keyingMaterial);
  });

  it('name an address too', async () => {
    const { client } = await both({
      server: sets.good,
      client: sets.good,
      clientTrust: { hostname: '127.0.0.1' },
    });
    proven(client);
  });

  it.each<[string, Sides, who: 'server' | 'client', reason: string]>([
    [
      'of another authority at the server',
      { server: sets.otherCa, client: sets.good },
      'client',
      'SELF_SIGNED_CERT_IN_CHAIN',
    ],
    [
      'of another name',
      { server: sets.wrongName, client: sets.good },
      'client',
      'ERR_TLS_CERT_ALTNAME_INVALID',
    ],
    ['expired at the server', { server: sets.expired, client: sets.good }, 'client', 'CERT_HAS_EXPIRED'],
    ['expired at the client', { server: sets.good, client: sets.expired }, 'server', 'CERT_HAS_EXPIRED'],
    ['not valid yet', { server: sets.good, client: sets.future }, 'server', 'CERT_NOT_YET_VALID'],
    ['for a client at the server', { server: sets.swapped, client: sets.good }, 'client', 'INVALID_PURPOSE'],
    ['for a server at the client', { server: sets.good, client: sets.swapped }, 'server', 'INVALID_PURPOSE'],
    ['revoked', { server: sets.revoked, client: sets.good }, 'server', 'CERT_REVOKED'],
    [
      'missing at the client',
      { server: sets.good, client: sets.caOnly },
      'server',
      'ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE',
    ],
  ])('are refused: %s', async (_, sides, who, reason) => {
    const ends = await fails(sides);
    expect(ends[who]).toMatchObject({ code: 'TLS_FAILED', phase: 'negotiate', details: { reason } });
    expect(ends[who === 'server' ? 'client' : 'server'].code).toBe('TLS_FAILED');
  });

  it('pass a list that revokes others', async () => {
    const { server } = await both({ server: sets.withCrl, client: sets.withCrl });
    proven(server);
  });

  it('of whom authz does not name are refused, and both ends know it', async () => {
    const { server, client } = await fails({
      server: sets.good,
      client: sets.good,
      serverTrust: { authz: ['another.example'] },
    });
    expect(server).toMatchObject({
      code: 'NOT_AUTHORIZED',
      details: { peer: expect.stringContaining('client') },
    });
    expect(client).toMatchObject({ code: 'NOT_AUTHORIZED' });
  });

  it('can be refused by the client', async () => {
    const { server, client } = await fails({
      server: sets.good,
      client: sets.good,
      clientTrust: { authorize: () => false },
    });
    expect([server.code, client.code]).toEqual(['NOT_AUTHORIZED', 'NOT_AUTHORIZED']);
  });
});

describe('keys', () => {
  it('prove both ends to each other: TLS 1.3 takes them with suites of SHA-256', async () => {
    const { server, client } = await both({ server: sets.psk, client: sets.psk });
    expect(proven(server).peer).toEqual({ pskName: 'qemu', names: [] });
    expect(proven(server).keyingMaterial).toEqual(proven(client).keyingMaterial);
    expect(proven(server).cipher).toBe('TLS_AES_128_GCM_SHA256');
  });

  it('tell the server which of them it was', async () => {
    const { server } = await both({
      server: sets.psk,
      client: sets.psk,
      serverTrust: { authz: ['other'] },
      clientTrust: { pskName: 'other' },
    });
    expect(proven(server).peer.pskName).toBe('other');
  });

  it('are refused when they are others of the same name', async () => {
    const { server } = await fails({ server: sets.psk, client: sets.otherPsk });
    expect(server).toMatchObject({
      code: 'TLS_FAILED',
      details: { reason: 'ERR_SSL_BINDER_DOES_NOT_VERIFY' },
    });
  });

  it('are refused when the server has none of the name', async () => {
    const { server } = await fails({
      server: sets.otherPsk,
      client: sets.psk,
      clientTrust: { pskName: 'other' },
    });
    expect(server.message).toMatch(/no key that is known here/);
  });

  it('are asked of a client that has certificates, and of a server that has them', async () => {
    for (const sides of [
      { server: sets.psk, client: sets.good },
      { server: sets.good, client: sets.psk },
    ]) {
      const { server, client } = await fails(sides);
      expect([server.code, client.code]).toEqual(['TLS_FAILED', 'TLS_FAILED']);
    }
  });
});

describe('a handshake', () => {
  it('ends when the peer says nothing', async () => {
    const [, clientEnd] = duplexPair();
    const credentials = await loadCredentials(sets.good, 'client');
    const end = handshake(clientEnd, { role: 'client', credentials, hostname: HOSTNAME }, EXPORTER, {
      timeoutMs: PATIENCE_MS,
    });
    await expect(end).rejects.toMatchObject({ code: 'TIMEOUT', phase: 'negotiate' });
  });

  it('ends when it is cancelled', async () => {
    const [serverEnd] = duplexPair();
    const credentials = await loadCredentials(sets.good, 'server');
    const cancel = new AbortController();
    const end = handshake(serverEnd, { role: 'server', credentials, hostname: HOSTNAME }, EXPORTER, {
      timeoutMs: 60_000,
      signal: cancel.signal,
    });
    cancel.abort();
    await expect(end).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it.each(['server', 'client'] as const)('fails at a %s whose peer sends anything else', async (role) => {
    const [serverEnd, clientEnd] = duplexPair();
    const [own, peer] = role === 'server' ? [serverEnd, clientEnd] : [clientEnd, serverEnd];
    const credentials = await loadCredentials(sets.good, role);
    const end = handshake(own, { role, credentials, hostname: HOSTNAME }, EXPORTER, { timeoutMs: 10_000 });
    peer.write(Buffer.from('GET / HTTP/1.1\r\nHost: server.example\r\n\r\n'));
    await expect(end).rejects.toMatchObject({ code: 'TLS_FAILED' });
  });

  it('fails at a client when the peer ends', async () => {
    const [serverEnd, clientEnd] = duplexPair();
    const credentials = await loadCredentials(sets.good, 'client');
    const end = handshake(clientEnd, { role: 'client', credentials, hostname: HOSTNAME }, EXPORTER, {
      timeoutMs: 10_000,
    });
    serverEnd.destroy();
    await expect(end).rejects.toMatchObject({ code: 'TLS_FAILED' });
  });

  it('speaks nothing older than TLS 1.3', async () => {
    const [serverEnd, clientEnd] = duplexPair();
    const credentials = await loadCredentials(sets.good, 'server');
    const end = handshake(serverEnd, { role: 'server', credentials, hostname: HOSTNAME }, EXPORTER, {
      timeoutMs: 10_000,
    });
    const old = connect({
      socket: clientEnd,
      maxVersion: 'TLSv1.2',
      ca: pem(sets.good, 'ca-cert.pem'),
      cert: pem(sets.good, 'client-cert.pem'),
      key: pem(sets.good, 'client-key.pem'),
      servername: HOSTNAME,
    });
    old.on('error', () => {});
    await expect(end).rejects.toMatchObject({ code: 'TLS_FAILED' });
    old.destroy();
  });

  it('with a key is not over for a server that shows a certificate, even of a public authority', async () => {
    const [serverEnd, clientEnd] = duplexPair();
    const credentials = await loadCredentials(sets.psk, 'client');
    const server = createServer({
      cert: pem(sets.good, 'server-cert.pem'),
      key: pem(sets.good, 'server-key.pem'),
    });
    server.on('tlsClientError', () => {});
    server.on('secureConnection', (socket) => socket.on('error', () => {}).write(Buffer.of(1)));
    server.emit('connection', serverEnd);
    const end = handshake(clientEnd, { role: 'client', credentials, hostname: HOSTNAME }, EXPORTER, {
      timeoutMs: 10_000,
    });
    await expect(end).rejects.toMatchObject({ code: 'TLS_FAILED' });
  });

  it('leaves no record behind: nobody writes any more when both are through', async () => {
    const [serverEnd, clientEnd] = duplexPair();
    const through = async (role: Trust['role'], end: typeof serverEnd): Promise<number> => {
      const credentials = await loadCredentials(sets.good, role);
      await handshake(end, { role, credentials, hostname: HOSTNAME }, EXPORTER, { timeoutMs: 10_000 });
      return end.written.length;
    };
    const counts = await Promise.all([through('server', serverEnd), through('client', clientEnd)]);
    await new Promise((resolve) => setTimeout(resolve, 100));
    expect([serverEnd.written.length, clientEnd.written.length]).toEqual(counts);
  });
});
