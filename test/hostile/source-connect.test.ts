/** A source that reaches nobody, or somebody who is no destination. */
import { createServer } from 'node:net';
import { describe, it } from 'vitest';
import type { ErrorCode, SourceOptions } from '../../lib/index.ts';
import { privateData } from '../support/raw-control.ts';
import { RawListener } from '../support/raw-listener.ts';
import { sourceFails, untouchedImage } from '../support/sending.ts';

const image = await untouchedImage();

describe('a source reports', () => {
  it('a port on which nobody listens', async () => {
    const { port } = await unusedPort();
    await sourceFails(image, `rdma:127.0.0.1:${port}`, 'CONNECTION_REFUSED', 'connect');
  });

  it('a host that does not exist', () =>
    sourceFails(image, 'rdma:no-such-host.invalid:4444', 'ADDRESS_NOT_FOUND', 'connect'));

  it('a URI that is none', () => sourceFails(image, 'rdma:nowhere', 'INVALID_URI', 'configure'));

  it('a peer that accepts and says nothing', async () => {
    await using listener = await RawListener.open();
    await sourceFails(image, listener.uri, 'TIMEOUT', 'connect', { connectTimeoutMs: 300 });
  });

  it('a peer that hangs up', async () => {
    await using listener = await RawListener.open();
    void listener.accept().then((peer) => peer.finish());
    await sourceFails(image, listener.uri, 'CONNECTION_LOST', 'connect');
  });

  it('a peer that resets', async () => {
    await using listener = await RawListener.open();
    void listener.accept().then((peer) => peer.kill());
    await sourceFails(image, listener.uri, 'CONNECTION_LOST', 'connect');
  });

  it('a peer that speaks HTTP', async () => {
    await using listener = await RawListener.open();
    void listener.accept().then((peer) => peer.raw(Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n')));
    await sourceFails(image, listener.uri, 'MPA_ERROR', 'connect');
  });

  it('a rejection', async () => {
    await using listener = await RawListener.open();
    void listener.accept().then(async (peer) => {
      peer.reply(await peer.awaitRequest(), privateData(), { reject: true });
    });
    await sourceFails(image, listener.uri, 'REJECTED', 'connect');
  });
});

async function unusedPort(): Promise<{ port: number }> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as { port: number };
  await new Promise((resolve) => server.close(resolve));
  return { port };
}

const REPLIES: readonly { name: string; data: Buffer; code: ErrorCode; options?: SourceOptions }[] = [
  { name: 'no private data', data: Buffer.alloc(0), code: 'PROTOCOL_ERROR' },
  { name: '7 bytes', data: privateData().subarray(0, 7), code: 'PROTOCOL_ERROR' },
  { name: 'version 0', data: privateData({ version: 0 }), code: 'VERSION_MISMATCH' },
  { name: 'version 2', data: privateData({ version: 2 }), code: 'VERSION_MISMATCH' },
  {
    name: 'a tail of an impossible length',
    data: Buffer.concat([privateData(), Buffer.from('52444d67000100ff00000001', 'hex')]),
    code: 'PROTOCOL_ERROR',
  },
  {
    name: 'no commit where it is required',
    data: privateData(),
    code: 'VERSION_MISMATCH',
    options: { commit: 'require' },
  },
  {
    name: 'no commit where RAM is to be compared',
    data: privateData(),
    code: 'VERSION_MISMATCH',
    options: { verify: true },
  },
  {
    name: 'bytes where our tail is due',
    data: Buffer.concat([privateData(), Buffer.from('52444d66000100180000000d', 'hex')]),
    code: 'PROTOCOL_ERROR',
  },
];

describe('a source refuses a reply with', () => {
  it.each(REPLIES)('$name', async ({ data, code, options }) => {
    await using listener = await RawListener.open();
    void listener.accept().then(async (peer) => peer.reply(await peer.awaitRequest(), data));
    await sourceFails(image, listener.uri, code, 'negotiate', options);
  });
});
