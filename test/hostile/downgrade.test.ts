/** Nobody is made to do without protection: not by an end that has none, and not by somebody in between. */
import { describe, expect, it } from 'vitest';
import type { DestinationOptions, ErrorCode, SourceOptions } from '../../lib/index.ts';
import { credentialSets } from '../support/credentials.ts';
import { honestMigration } from '../support/honest-source.ts';
import { honestTlsMigration } from '../support/honest-tls.ts';
import { type Changes, MpaProxy, withByte, withFlags } from '../support/mpa-proxy.ts';
import { privateData } from '../support/raw-control.ts';
import { MPA_FLAG } from '../support/raw-frames.ts';
import { RawPeer } from '../support/raw-iwarp.ts';
import { RawListener } from '../support/raw-listener.ts';
import { type Receiving, receiving } from '../support/receiving.ts';
import { sourceFails, untouchedImage } from '../support/sending.ts';

const sets = credentialSets();
const image = await untouchedImage();

const PROTECTED: SourceOptions = { tls: { creds: sets.good, hostname: 'server.example' } };
const protectedEnd = (options: DestinationOptions = {}): Promise<Receiving> =>
  receiving({ tls: { creds: sets.good }, ...options }, { external: false });

describe('a source with credentials sends nothing to', () => {
  it('a stock QEMU', async () => {
    await using listener = await RawListener.open();
    void listener.accept().then(async (peer) => peer.reply(await peer.awaitRequest(), privateData()));
    const error = await sourceFails(image, listener.uri, 'TLS_REQUIRED', 'negotiate', PROTECTED);
    expect(error.message).toMatch(
      /a QEMU.+receive --tls-creds.+or send without, on a network that you trust/,
    );
  });

  it('a destination of ours without: each end says what it lacks', async () => {
    await using received = await receiving();
    const error = await sourceFails(image, received.destination.uri, 'TLS_REQUIRED', 'connect', PROTECTED);
    expect(error.message).toMatch(/it was started without.+receive --tls-creds/);
    expect(received.notices).toEqual([
      expect.stringMatching(/^refused .+: the source wants a protected migration.+--tls-creds/),
    ]);
    await honestMigration(received);
  });

  it('a destination with credentials that refuses it for another reason, and does not blame them', async () => {
    await using received = await protectedEnd({ allow: ['192.0.2.7'] });
    await sourceFails(image, received.destination.uri, 'REJECTED', 'connect', PROTECTED);
  });
});

describe('a destination with credentials goes on waiting after', () => {
  it('a stock QEMU', async () => {
    await using received = await protectedEnd();
    await using qemu = await RawPeer.tcp(received.port);
    expect((await qemu.request(privateData({ pinAll: true }))).flags & MPA_FLAG.reject).toBe(MPA_FLAG.reject);
    await expect.poll(() => received.notices).toHaveLength(1);
    expect(received.notices[0]).toMatch(/the source is a QEMU.+--tls-creds.+or listen without/);
    await honestTlsMigration(received, sets.good);
  });

  it('a source of ours without: each end says what it lacks', async () => {
    await using received = await protectedEnd();
    const error = await sourceFails(image, received.destination.uri, 'TLS_REQUIRED', 'connect');
    expect(error.message).toMatch(/Give this one credentials \(--tls-creds\)/);
    expect(received.notices).toEqual([
      expect.stringMatching(/the source has no credentials.+send --tls-creds/),
    ]);
    await honestTlsMigration(received, sets.good);
  });

  it('a peer that says it has credentials and then speaks as if it had none', async () => {
    await using received = await protectedEnd();
    await using peer = await RawPeer.tcp(received.port);
    await peer.request(privateData({ commit: true, tls: true }));
    peer.send(Buffer.from('00000000000000010000000000000000', 'hex'));
    await peer.untilEnd();
    await honestTlsMigration(received, sets.good);
    expect(received.notices[0]).toMatch(/^refused .*TLS/);
  });
});

const FLAG = {
  COMMIT: 0x1,
  SPARSE: 0x4,
  REASON: 0x8,
  ALIVE: 0x10,
  PROGRESS: 0x100,
  SOFTWARE_RNIC: 0x200,
  UNCHECKED: 0x800,
  'one that nobody knows': 0x80000,
} as const;
const TLS = 0x400;
const withoutTls = withFlags((flags) => flags & ~TLS);

/** What a source whose keys are not those of the destination may see of it. */
const REFUSED: readonly ErrorCode[] = [
  'TLS_FAILED',
  'INTEGRITY_ERROR',
  'CONNECTION_LOST',
  'CONNECTION_CLOSED',
  'TERMINATE_RECEIVED',
  'WIRE_ERROR',
];

describe('both ends refuse, and harm nobody, where somebody in between', () => {
  const refuses = async (changes: Changes, codes: readonly ErrorCode[]): Promise<void> => {
    await using received = await protectedEnd();
    await using between = await MpaProxy.open(received.port, changes);
    await sourceFails(image, between.uri, codes, ['connect', 'negotiate', 'setup'], PROTECTED);
    await expect.poll(() => received.notices).toEqual([expect.stringMatching(/^refused /)]);
    await honestTlsMigration(received, sets.good);
  };

  it('strips TLS of the request', () => refuses({ request: withoutTls }, ['REJECTED']));
  it('strips TLS of the reply', () => refuses({ reply: withoutTls }, ['TLS_REQUIRED']));

  it.each(Object.entries(FLAG))('changes the flag %s, of either', async (_, flag) => {
    const change = withFlags((flags) => flags ^ flag);
    await refuses({ request: change }, REFUSED);
    await refuses({ reply: change }, REFUSED);
  });

  it.each([
    ['asks for pin-all', { request: withByte(7) }],
    ['grants pin-all', { reply: withByte(7) }],
    ['changes how much RAM the source has', { request: withByte(27) }],
    ['changes which migration it is', { request: withByte(40) }],
  ])('%s', (_, changes) => refuses(changes, REFUSED));
});
