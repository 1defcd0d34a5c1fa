/** Native connections of the software RNIC that go on in protected records, and their rails. */
import { expect, it } from 'vitest';
import { native } from '../../lib/native/index.ts';
import type { NativeConnection, NativeSecrets } from '../../lib/native/transport.ts';
import { failure } from '../memory/support.ts';
import { NOTHING, OPTIONS, Requests } from './native-pair.ts';

const secret = (byte: number): Buffer => Buffer.alloc(48, byte);
/** Of the source and of the destination. */
const [AT_SOURCE, AT_DESTINATION] = [
  { send: secret(1), receive: secret(2) },
  { send: secret(2), receive: secret(1) },
];
const OF_RAIL = {
  source: { send: secret(3), receive: secret(4) },
  destination: { send: secret(4), receive: secret(3) },
};

interface Pair extends AsyncDisposable {
  readonly requests: Requests;
  readonly source: NativeConnection;
  readonly destination: NativeConnection;
}

/** Both take one message at a time until they are protected. */
async function connected(): Promise<Pair> {
  const requests = await Requests.listen();
  const options = { ...OPTIONS, holdUntilProtected: true };
  const source = native.createConnection('iwarp', options);
  const destination = native.createConnection('iwarp', options);
  const established = source.connect(requests.endpoint, NOTHING);
  await destination.accept(await requests.next(), NOTHING, true);
  await established;
  return {
    ...{ requests, source, destination },
    async [Symbol.asyncDispose]() {
      await Promise.all([source.close(), destination.close()]);
      await requests[Symbol.asyncDispose]();
    },
  };
}

async function rail({ requests, source, destination }: Pair, ofDestination: NativeSecrets): Promise<void> {
  const established = source.connectRail(requests.endpoint, NOTHING, 10_000, OF_RAIL.source);
  await destination.acceptRail(await requests.next(), NOTHING, ofDestination);
  await established;
}

const protect = (end: NativeConnection, { send, receive }: NativeSecrets): Promise<void> =>
  end.protect(send, receive);
const text = async (end: NativeConnection): Promise<string> => String(await end.receive());

it('what is protected may come before the peer has its keys: it is not taken for clear bytes', async () => {
  await using pair = await connected();
  const { source, destination } = pair;
  await source.send(Buffer.from('the last in the clear'));
  await protect(source, AT_SOURCE);
  await source.send(Buffer.from('the first record'));
  expect(await text(destination)).toBe('the last in the clear');
  await protect(destination, AT_DESTINATION);
  expect(await text(destination)).toBe('the first record');
  await destination.send(Buffer.from('an answer'));
  expect(await text(source)).toBe('an answer');
  expect(source.info).toMatchObject({ crc: false, detail: expect.stringContaining('AES-256-GCM') });
});

it('one message after another comes in the clear as long as the next one is asked for', async () => {
  await using pair = await connected();
  for (const word of ['one', 'two', 'three']) {
    await pair.source.send(Buffer.from(word));
    expect(await text(pair.destination)).toBe(word);
    pair.destination.resumeReceive(false);
  }
  void pair.source.disconnect();
  expect(await pair.destination.receive()).toBe(null);
});

it.each([
  ['clear bytes', undefined],
  ['records of other keys', { send: secret(9), receive: secret(9) }],
])('%s where records are due end the connection', async (_, secrets) => {
  await using pair = await connected();
  await protect(pair.destination, AT_DESTINATION);
  if (secrets) await protect(pair.source, secrets);
  await pair.source.send(Buffer.from('hello'));
  expect(await pair.destination.closed).toMatchObject({ code: 'INTEGRITY_ERROR' });
  expect(await failure(pair.destination.receive())).toMatchObject({ code: 'INTEGRITY_ERROR' });
});

it('a rail is protected from its first byte on', async () => {
  await using pair = await connected();
  await rail(pair, OF_RAIL.destination);
  await Promise.all([pair.source.barrier(), pair.destination.barrier()]);
});

it('a rail of other keys carries nothing, and ends the connection of whoever counts on it, by name', async () => {
  await using pair = await connected();
  await rail(pair, { send: secret(9), receive: secret(9) });
  pair.source.barrier().catch(() => {});
  expect(await failure(pair.source.receive())).toMatchObject({
    code: 'INTEGRITY_ERROR',
    message: expect.stringContaining('channel 2 of 2'),
  });
});

it('secrets have 48 bytes, and a connection is protected once, and while it is there', async () => {
  await using pair = await connected();
  const { source, requests } = pair;
  for (const bad of [Buffer.alloc(32), Buffer.alloc(49), Buffer.alloc(0)]) {
    const secrets = { send: secret(1), receive: bad };
    for (const call of [
      () => source.protect(bad, secret(1)),
      () => source.protect(secret(1), bad),
      () => source.connectRail(requests.endpoint, NOTHING, 1_000, secrets),
    ])
      expect(await failure((async () => call())())).toMatchObject({ code: 'INVALID_ARGUMENT' });
  }
  await protect(source, AT_SOURCE);
  expect(await failure(protect(source, AT_SOURCE))).toMatchObject({ code: 'INVALID_ARGUMENT' });
  await source.close();
  expect(await failure(protect(source, AT_SOURCE))).toMatchObject({ code: 'CONNECTION_CLOSED' });
  source.resumeReceive(false);
});
