/** A destination to which peers come that are no sources. */
import { describe, expect, it } from 'vitest';
import { honestMigration } from '../support/honest-source.ts';
import { PATIENCE_MS } from '../support/patience.ts';
import { privateData } from '../support/raw-control.ts';
import { RawPeer, withDeadline } from '../support/raw-iwarp.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';

const REFUSED = [
  { name: 'version 0', data: privateData({ version: 0 }) },
  { name: 'version 2', data: privateData({ version: 2 }) },
  { name: 'version 2^32-1 with our tail', data: privateData({ version: 0xffffffff, commit: true }) },
  { name: 'no private data', data: Buffer.alloc(0) },
  { name: '7 bytes of private data', data: privateData().subarray(0, 7) },
  {
    name: 'a tail of length 0',
    data: Buffer.concat([privateData(), Buffer.from('52444d670001000000000001', 'hex')]),
  },
  {
    name: 'bytes where our tail is due',
    data: Buffer.concat([privateData(), Buffer.from('12444d670001000c00000001', 'hex')]),
  },
  {
    name: 'a tail of 64 KiB in 12 bytes',
    data: Buffer.concat([privateData(), Buffer.from('52444d670001ffff00000001', 'hex')]),
  },
];

describe('a destination refuses a peer, waits on and takes the next source:', () => {
  it.each(REFUSED)('$name', async ({ data }) => {
    await using received = await receiving();
    await using peer = await RawPeer.tcp(received.port);
    const reply = await peer.request(data);
    expect(reply.flags & 0x20).toBe(0x20);
    expect(reply.privateData).toEqual(privateData());
    expect((await peer.untilEnd()).map(({ kind }) => kind)).toEqual(['end']);
    await honestMigration(received);
    expect(received.notices).toHaveLength(1);
  });

  const STRANGERS: readonly { name: string; bytes: Uint8Array }[] = [
    { name: 'an HTTP request', bytes: Buffer.from('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n') },
    { name: 'half an MPA request', bytes: Buffer.from('MPA ID Req Frame').subarray(0, 9) },
    {
      name: 'a request of revision 0',
      bytes: Buffer.from(`${Buffer.from('MPA ID Req Frame').toString('hex')}10000008`, 'hex'),
    },
    {
      name: 'a request that promises 64 KiB',
      bytes: Buffer.from(`${Buffer.from('MPA ID Req Frame').toString('hex')}1002ffff`, 'hex'),
    },
    { name: 'nothing', bytes: Buffer.alloc(0) },
  ];
  it.concurrent.each(STRANGERS)('$name', async ({ bytes }) => {
    await using received = await receiving({ connectTimeoutMs: PATIENCE_MS });
    await using peer = await RawPeer.tcp(received.port);
    peer.raw(bytes);
    expect((await peer.untilEnd()).at(-1)?.kind).toMatch(/end|broken/);
    await honestMigration(received);
  });

  it('one that goes away right behind its request', async () => {
    await using received = await receiving();
    for (let count = 0; count < 5; count++) {
      await using peer = await RawPeer.tcp(received.port);
      const asked = peer.request(privateData({ version: 9 }));
      asked.catch(() => {});
      peer.kill();
    }
    await honestMigration(received);
  });

  it('one that is refused and does not hang up', async () => {
    await using received = await receiving();
    await using peer = await RawPeer.tcp(received.port, { keepOpen: true });
    await peer.request(privateData({ version: 9 }));
    await honestMigration(received);
  });

  it('forty that say nothing', async () => {
    await using received = await receiving();
    const silent = await Promise.all(Array.from({ length: 40 }, () => RawPeer.tcp(received.port)));
    await honestMigration(received);
    for (const peer of silent) await peer[Symbol.asyncDispose]();
  });
});

it('a second source that comes during a migration is refused, and the first goes on', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port, { commit: true });
  await source.reach('ram');
  await expect(RawPeer.tcp(received.port)).rejects.toThrow();
  await source.reach('stream-done');
  await source.say('COMMIT', source.account.commit());
  await source.expect('COMMITTED');
  await withDeadline(received.result, 'the result');
});
