/** From listening to the end, and an end at every moment in between. */
import { type ConnectionRequest, listen, openDomain, type QueuePair } from 'rdma-migrate/verbs';
import { describe, expect, it } from 'vitest';
import { complete, connectedPair, drain, LOOPBACK, nextRequest, region } from '../support/verbs-pair.ts';

const iwarp = { provider: 'iwarp' } as const;

/** A queue pair whose request has come to the listener, and is not answered. */
async function requested(signal?: AbortSignal) {
  const domain = await openDomain(iwarp);
  const listener = await listen(LOOPBACK, iwarp);
  const queuePair = domain.createQueuePair();
  const endpoint = { host: '127.0.0.1', port: listener.port };
  const connecting = queuePair.connect(endpoint, signal && { signal }).catch((error: unknown) => error);
  const request = await nextRequest(listener);
  return {
    domain,
    listener,
    queuePair,
    connecting,
    request,
    async [Symbol.asyncDispose]() {
      await listener.close();
      await domain.close();
    },
  };
}

it('a domain is bound to a request, which can be answered afterwards and not meanwhile', async () => {
  await using asked = await requested();
  const { domain, request } = asked;
  const binding = domain.bind(request);
  await expect(domain.bind(request)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  await binding;
  const inbox = await domain.registerMemory(Buffer.alloc(8), { localWrite: true, remoteWrite: true });
  const accepting = domain.createQueuePair();
  await accepting.accept(request, { privateData: Uint8Array.from([inbox.rkey & 255]) });
  expect(await asked.connecting).toEqual(Buffer.from([inbox.rkey & 255]));
  await expect(domain.bind(request)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
});

describe('the end is orderly', () => {
  it('at both sides when one disconnects, after everything that was posted', async () => {
    await using pair = await connectedPair();
    const local = await region(pair.left.domain, 1 << 20, 9);
    const remote = await region(pair.right.domain, 1 << 20);
    const write = {
      opcode: 'RDMA_WRITE',
      ...local.range(),
      remoteAddr: remote.addr,
      rkey: remote.rkey,
    } as const;
    pair.left.queuePair.postSend(Array(20).fill(write));
    const over = pair.left.queuePair.disconnect();
    expect(['SQD', 'RTS']).toContain(pair.left.queuePair.state);
    expect(() => pair.left.queuePair.postSend([write])).toThrow(
      expect.objectContaining({ code: 'CONNECTION_CLOSED', details: { posted: 0 } }),
    );
    await over;
    expect(await pair.left.queuePair.closed).toBeNull();
    expect(await pair.right.queuePair.closed).toBeNull();
    expect((await drain(pair.left.queuePair)).map(({ status }) => status)).toEqual(Array(20).fill('SUCCESS'));
    expect(remote.memory.every((byte) => byte === 9)).toBe(true);
    expect(pair.left.queuePair.counters.bytesSent).toBeGreaterThan(20n << 20n);
    expect(pair.left.queuePair.info.provider).toBe('iwarp');
  });

  it('of this side when it closes, and what was outstanding is flushed', async () => {
    await using pair = await connectedPair();
    const room = await region(pair.left.domain, 64);
    pair.left.queuePair.postRecv([1, 2].map((wrId) => ({ wrId, ...room.range() })));
    await Promise.all([pair.left.queuePair.close(), pair.left.queuePair.close()]);
    expect(await pair.left.queuePair.closed).toBeNull();
    expect(await drain(pair.left.queuePair)).toEqual(
      [1n, 2n].map((wrId) => ({ wrId, opcode: 'RECV', status: 'WR_FLUSH_ERR', byteLen: 0 })),
    );
    expect(pair.left.queuePair.state).toBe('ERROR');
    const gone = expect.objectContaining({ code: 'CONNECTION_CLOSED' });
    expect(() => pair.left.queuePair.postRecv([room.range()])).toThrow(gone);
    await pair.right.queuePair.closed;
  });
});

describe('an end', () => {
  it('before anything has begun', async () => {
    await using domain = await openDomain(iwarp);
    for (const how of ['close', 'disconnect'] as const) {
      const queuePair = domain.createQueuePair();
      await queuePair[how]();
      expect(await queuePair.closed).toBeNull();
      await expect(queuePair.connect({ host: '127.0.0.1', port: 1 })).rejects.toMatchObject({
        code: 'CONNECTION_CLOSED',
        phase: 'connect',
      });
    }
  });

  it.each(['close', 'disconnect'] as const)('by %s while the request is unanswered', async (how) => {
    await using side = await requested();
    await side.queuePair[how]();
    expect(await side.connecting).toMatchObject({ code: 'CONNECTION_CLOSED' });
    const late = side.domain.createQueuePair({ connectTimeoutMs: 2_000 });
    const outcome = await late.accept(side.request).then(
      () => late.closed,
      (error: unknown) => error,
    );
    expect(outcome === null || outcome instanceof Error).toBe(true);
  });

  it('by a signal in the handshake', async () => {
    const stop = new AbortController();
    await using side = await requested(stop.signal);
    stop.abort();
    expect(await side.connecting).toMatchObject({ code: 'CANCELLED', phase: 'connect' });
    expect(side.queuePair.state).toBe('ERROR');
  });

  it('by a signal before the handshake: the queue pair is closed, the request rejected', async () => {
    await using side = await requested();
    const cancelled = { code: 'CANCELLED', phase: 'connect' };
    const signal = AbortSignal.abort();
    const accepting = side.domain.createQueuePair();
    await expect(accepting.accept(side.request, { signal })).rejects.toMatchObject(cancelled);
    expect(accepting.state).toBe('ERROR');
    expect(await side.connecting).toMatchObject({ code: 'REJECTED' });
    expect(() => side.request.reject()).toThrow(expect.objectContaining({ code: 'INVALID_ARGUMENT' }));
    const connecting = side.domain.createQueuePair();
    const endpoint = { host: '127.0.0.1', port: side.listener.port };
    await expect(connecting.connect(endpoint, { signal })).rejects.toMatchObject(cancelled);
    expect(await connecting.closed).toBeNull();
  });

  it('by a signal is none of a queue pair that is connected', async () => {
    await using pair = await connectedPair();
    const again = pair.left.queuePair.connect(LOOPBACK, { signal: AbortSignal.abort() });
    await expect(again).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(pair.left.queuePair.state).toBe('RTS');
  });

  it('by the domain, in the middle of traffic', async () => {
    await using pair = await connectedPair();
    const local = await region(pair.left.domain, 1 << 20, 9);
    const remote = await region(pair.right.domain, 1 << 20);
    const write = {
      opcode: 'RDMA_WRITE',
      ...local.range(),
      remoteAddr: remote.addr,
      rkey: remote.rkey,
    } as const;
    const consuming = (async () => {
      let done = 0;
      for await (const batch of pair.left.queuePair.completions()) done += batch.length;
      return done;
    })();
    expect(pair.left.queuePair.postSend(Array(200).fill(write))).toBe(200);
    await complete(pair.right.queuePair, 0);
    await pair.left.domain.close();
    expect(await consuming).toBe(200);
    expect(await pair.left.queuePair.closed).toBeNull();
    await expect(pair.left.domain.registerMemory(new ArrayBuffer(8))).rejects.toMatchObject({
      code: 'CLOSED',
    });
    expect(() => pair.left.domain.createQueuePair()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
    await pair.right.queuePair.closed;
  });

  it('of the peer, in the middle of a message, is noticed before the peer is taken for stalled', async () => {
    for (let round = 0; round < 60; round += 1) {
      await using pair = await connectedPair({ stallTimeoutMs: 5_000 });
      const local = await region(pair.left.domain, 1 << 20);
      const remote = await region(pair.right.domain, 1 << 20);
      const { addr, rkey } = remote;
      const write = { opcode: 'RDMA_WRITE', ...local.range(), remoteAddr: addr, rkey } as const;
      pair.left.queuePair.postSend(Array(100).fill(write));
      await new Promise((resolve) => setTimeout(resolve, round % 20));
      await pair.left.queuePair.close();
      expect([undefined, 'CONNECTION_LOST']).toContain((await pair.right.queuePair.closed)?.code);
    }
  });

  it('by a peer that is no longer there', async () => {
    await using pair = await connectedPair();
    const room = await region(pair.left.domain, 64);
    pair.left.queuePair.postRecv([room.range()]);
    const waiting = complete(pair.left.queuePair, 2).catch((error: unknown) => error);
    await pair.right.queuePair.close();
    await pair.left.queuePair.closed;
    expect(await waiting).not.toBeUndefined();
  });
});

describe('a request', () => {
  it('is rejected with private data', async () => {
    await using side = await requested();
    side.request.reject(Buffer.from('full'));
    expect(await side.connecting).toMatchObject({ code: 'REJECTED' });
    expect(side.queuePair.state).toBe('ERROR');
  });

  it('is answered once', async () => {
    await using side = await requested();
    const other = side.domain.createQueuePair();
    await other.accept(side.request);
    await side.connecting;
    const again = expect.objectContaining({ code: 'INVALID_ARGUMENT' });
    expect(() => side.request.reject()).toThrow(again);
    const third = side.domain.createQueuePair();
    await expect(third.accept(side.request)).rejects.toEqual(again);
    expect(third.state).toBe('INIT');
    expect(other.state).toBe('RTS');
  });

  it('needs a queue pair that has not begun', async () => {
    await using side = await requested();
    const { queuePair, request } = side;
    await expect(queuePair.accept(request)).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    // the request was the call's, and is over
    expect(await side.connecting).toMatchObject({ code: 'REJECTED' });
  });

  it('carries private data of 508 bytes, and no more', async () => {
    await using domain = await openDomain(iwarp);
    await using listener = await listen(LOOPBACK, iwarp);
    const endpoint = { host: '127.0.0.1', port: listener.port };
    const queuePair = domain.createQueuePair();
    const tooLong = queuePair.connect(endpoint, { privateData: new Uint8Array(509) });
    await expect(tooLong).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    const connecting = queuePair.connect(endpoint, { privateData: new Uint8Array(508).fill(5) });
    const request = await nextRequest(listener);
    expect(request.privateData).toHaveLength(508);
    expect(request.peerAddress).toMatch(/^127\.0\.0\.1:\d+$/);
    await domain.createQueuePair().accept(request);
    await connecting;
  });
});

describe('a listener', () => {
  it('gives requests to a callback, and rejects those of a callback that throws', async () => {
    await using domain = await openDomain(iwarp);
    const accepted: Promise<unknown>[] = [];
    const onRequest = (request: ConnectionRequest): void => {
      accepted.push(domain.createQueuePair().accept(request));
    };
    await using listener = await listen(LOOPBACK, iwarp, onRequest);
    await domain.createQueuePair().connect({ host: '127.0.0.1', port: listener.port });
    await Promise.all(accepted);
    expect(accepted).toHaveLength(1);
  });

  it('keeps a bounded number of requests, and rejects who comes after', async () => {
    await using domain = await openDomain(iwarp);
    await using listener = await listen(LOOPBACK, { ...iwarp, backlog: 2 });
    const endpoint = { host: '127.0.0.1', port: listener.port };
    const outcomes = Array.from({ length: 5 }, () =>
      domain
        .createQueuePair()
        .connect(endpoint)
        .then(
          () => 'connected',
          (error: { code: string }) => error.code,
        ),
    );
    expect(await Promise.race(outcomes)).toBe('REJECTED');
    await listener.close();
    expect(await Promise.all(outcomes)).toEqual(Array(5).fill('REJECTED'));
  });

  it('has one consumer at a time, and the next one when that has ended', async () => {
    await using domain = await openDomain(iwarp);
    await using listener = await listen(LOOPBACK, iwarp);
    const first = listener[Symbol.asyncIterator]();
    const waiting = first.next();
    await expect(listener[Symbol.asyncIterator]().next()).rejects.toMatchObject({
      code: 'INVALID_ARGUMENT',
    });
    const ended = domain
      .createQueuePair()
      .connect({ host: '127.0.0.1', port: listener.port })
      .catch((error: { code: string }) => error.code);
    (await waiting).value?.reject();
    expect(await ended).toBe('REJECTED');
    await first.return();
    const next = listener[Symbol.asyncIterator]().next();
    await listener.close();
    expect(await next).toEqual({ done: true, value: undefined });
  });

  it('ends its iterator when it is closed, and throws when it is cancelled', async () => {
    const listener = await listen(LOOPBACK, iwarp);
    const requests = listener[Symbol.asyncIterator]();
    const next = requests.next();
    await listener.close();
    await listener.close();
    expect(await next).toEqual({ done: true, value: undefined });
    const stop = new AbortController();
    const other = await listen(LOOPBACK, { ...iwarp, signal: stop.signal });
    const waiting = other[Symbol.asyncIterator]().next();
    stop.abort();
    await expect(waiting).rejects.toMatchObject({ code: 'CANCELLED', phase: 'listen' });
    await expect(listen(LOOPBACK, { signal: stop.signal })).rejects.toMatchObject({ code: 'CANCELLED' });
    await other.close();
    const again = await listen({ host: '127.0.0.1', port: other.port }, iwarp);
    await again.close();
  });

  it('says why an address cannot be had, and a connection not be made', async () => {
    await using listener = await listen(LOOPBACK, iwarp);
    const taken = listen({ host: '127.0.0.1', port: listener.port }, iwarp);
    await expect(taken).rejects.toMatchObject({ code: 'ADDRESS_IN_USE', phase: 'listen' });
    await using domain = await openDomain(iwarp);
    const { port } = listener;
    await listener.close();
    const queuePair: QueuePair = domain.createQueuePair();
    await expect(queuePair.connect({ host: '127.0.0.1', port })).rejects.toMatchObject({
      code: 'CONNECTION_REFUSED',
      phase: 'connect',
    });
    expect(await queuePair.closed).toMatchObject({ code: 'CONNECTION_REFUSED' });
  });
});

it('options are checked before anything is opened', async () => {
  const bad = { code: 'INVALID_ARGUMENT', phase: 'configure' };
  await expect(openDomain({ provider: 'infiniband' as never })).rejects.toMatchObject(bad);
  await expect(openDomain({ peer: LOOPBACK, local: LOOPBACK })).rejects.toMatchObject(bad);
  await expect(listen({ host: '', port: 1 })).rejects.toMatchObject(bad);
  await expect(listen(LOOPBACK, { backlog: 65 })).rejects.toMatchObject(bad);
  await expect(listen({ host: 'localhost', port: 65_536 })).rejects.toMatchObject(bad);
  await using domain = await openDomain(iwarp);
  for (const options of [{ maxSendWr: 0 }, { maxRecvWr: 65_537 }, { maxSendWR: 5 }, { stallTimeoutMs: -1 }])
    expect(() => domain.createQueuePair(options)).toThrow(expect.objectContaining(bad));
  const remoteOnly = domain.registerMemory(new ArrayBuffer(8), { remoteWrite: true });
  await expect(remoteOnly).rejects.toMatchObject(bad);
});

it('auto takes a provider and says why', async () => {
  await using domain = await openDomain();
  expect(domain.provider.reason).not.toMatch(/migration/);
  expect(['iwarp', 'verbs']).toContain(domain.provider.name);
});
