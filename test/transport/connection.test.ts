/** What a connection says of its end, where the provider's calls say less. */
import { expect, it } from 'vitest';
import type { NativeMapping } from '../../lib/native/memory.ts';
import type { NativeConnection } from '../../lib/native/transport.ts';
import { Connection } from '../../lib/transport/connection.ts';

const failure = (code: string): Error => Object.assign(new Error(code), { code });

/** Established, and ended by `end`; it registers nothing any more. */
function ended(end: Promise<null>): NativeConnection {
  return {
    info: { peerAddress: '192.0.2.1:4444' },
    receive: () => end,
    linkChange: async () => null,
    closed: end.then(
      () => null,
      (error: Error) => error,
    ),
    registerSpans: () => Promise.reject(failure('CONNECTION_CLOSED')),
    close: () => Promise.resolve(),
  } as unknown as NativeConnection;
}

it('that ends while memory is registered gives the reason of its end', async () => {
  const end = new Promise<null>((_, reject) => setTimeout(() => reject(failure('CONNECTION_LOST')), 50));
  end.catch(() => {});
  await using connection = new Connection(ended(end), new Uint8Array(), 'source');
  connection.phase = 'setup';
  await expect(
    connection.register({} as NativeMapping, BigUint64Array.of(0n, 4096n), 0),
  ).rejects.toMatchObject({
    code: 'CONNECTION_LOST',
    phase: 'setup',
  });
});

it('that cannot be paced says so with a MigrationError', async () => {
  const end = new Promise<null>(() => {});
  const native = {
    ...ended(end),
    setMaxBandwidth: () => {
      throw failure('RESOURCE_LIMIT');
    },
  };
  await using connection = new Connection(native, new Uint8Array(), 'source');
  connection.phase = 'ram';
  const limited = expect.objectContaining({ name: 'MigrationError', code: 'RESOURCE_LIMIT', phase: 'ram' });
  expect(() => connection.setMaxBandwidth(1n)).toThrow(limited);
});
