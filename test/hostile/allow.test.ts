/** Option allow: who connects from elsewhere is refused before anything is said to it, and harms nobody. */
import { describe, expect, it } from 'vitest';
import { honestMigration } from '../support/honest-source.ts';
import { privateData } from '../support/raw-control.ts';
import { MPA_FLAG } from '../support/raw-frames.ts';
import { RawPeer } from '../support/raw-iwarp.ts';
import { receiving } from '../support/receiving.ts';

const isRefused = async (peer: RawPeer): Promise<boolean> =>
  ((await peer.request(privateData({ commit: true }))).flags & MPA_FLAG.reject) !== 0;

describe('a destination with a list of who may connect', () => {
  it('refuses all others, says so, and takes a source that is in it', async () => {
    await using received = await receiving({ allow: ['192.0.2.0/24', '127.0.0.1', '::1'] });
    await using stranger = await RawPeer.tcp(received.port, { from: '127.0.0.2' });
    expect(await isRefused(stranger)).toBe(true);
    await honestMigration(received);
    expect(received.notices).toEqual([
      expect.stringMatching(/^refused 127\.0\.0\.2:\d+: its address is not among those that may connect/),
    ]);
  });

  it('refuses them before it waits for a source, while one is let in, and a crowd of them with few words', async () => {
    await using received = await receiving({ allow: ['127.0.0.1/32'] });
    await using silent = await RawPeer.tcp(received.port);
    expect(await isRefused(silent)).toBe(false);
    for (let count = 0; count < 64; count += 1) {
      await using stranger = await RawPeer.tcp(received.port, { from: '127.0.0.3' });
      expect(await isRefused(stranger)).toBe(true);
    }
    expect(received.notices.length).toBeLessThan(20);
    await honestMigration(received);
  });

  it('that is empty takes nobody', async () => {
    await using received = await receiving({ allow: [] });
    await using peer = await RawPeer.tcp(received.port);
    expect(await isRefused(peer)).toBe(true);
  });

  it('and none takes everybody', async () => {
    await using received = await receiving();
    await honestMigration(received);
    expect(received.notices).toEqual([]);
  });
});
