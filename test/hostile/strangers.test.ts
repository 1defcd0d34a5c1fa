/** A destination to which somebody comes who speaks something else: it says who and what. */
import { describe, expect, it } from 'vitest';
import { Strangers } from '../../lib/migration/destination/strangers.ts';
import { RawPeer } from '../support/raw-iwarp.ts';
import { receiving } from '../support/receiving.ts';

const TLS_HELLO = Buffer.from('1603010200010001fc0303', 'hex');

describe('a destination says who came and what they spoke:', () => {
  it.each([
    ['QEMU over plain TCP', Buffer.from('5145564d000000030700', 'hex'), /QEMU's migration stream over TCP/],
    ['a browser', Buffer.from('GET / HTTP/1.0\r\n\r\n'), /spoke HTTP/],
    ['a TLS client', TLS_HELLO, /spoke TLS/],
    ['an SSH client', Buffer.from('SSH-2.0-OpenSSH_9.2\r\n'), /spoke SSH/],
    ['escape codes', Buffer.from('\u001b[2J\u001b[31mpwned'), /begins with 0x1b5b324a1b5b33316d70776e6564/],
    ['a port scanner', Buffer.alloc(0), /spoke nothing/],
  ])('%s', async (_who, bytes, says) => {
    await using received = await receiving();
    await using peer = await RawPeer.tcp(received.port);
    peer.raw(bytes);
    if (bytes.length < 4) peer.finish();
    await peer.untilEnd();
    await expect.poll(() => received.notices).toHaveLength(1);
    const [notice = ''] = received.notices;
    expect(notice).toMatch(/^turned away: 127\.0\.0\.1:\d+ spoke /);
    expect(notice).toMatch(says);
    expect(notice).toMatch(/^[\x20-\x7e]*$/);
    expect(notice).toContain(received.destination.strangers);
  });

  it('one whose first bytes are no MPA request is turned away before it has sent more', async () => {
    await using received = await receiving({ connectTimeoutMs: 60_000 });
    await using peer = await RawPeer.tcp(received.port, { keepOpen: true });
    peer.raw(Buffer.from('QEVM'));
    expect((await peer.untilEnd()).map(({ kind }) => kind)).toEqual(['end']);
  });

  it('nobody, when nobody came', async () => {
    await using received = await receiving();
    expect(received.destination.strangers).toBeUndefined();
  });
});

it('a thousand strangers make few notices', () => {
  const notices: string[] = [];
  const strangers = new Strangers((notice) => notices.push(notice));
  for (let port = 1; port <= 1000; port++)
    strangers.came({ address: `192.0.2.7:${port}`, spoke: 'HTTP', count: 1 });
  expect(notices).toHaveLength(10);
  expect(notices[0]).toBe('turned away: 192.0.2.7:1 spoke HTTP');
  expect(strangers.summary).toBe('192.0.2.7:1000 spoke HTTP, the last of 1000 that were no sources');
});
