/** Batches, the limits of the queues, and who takes completions. */
import { CompletionBatch, WORK_REQUEST_BYTES, WorkRequestBatch } from 'rdma-migrate/verbs';
import { describe, expect, it } from 'vitest';
import { complete, connectedPair, region } from '../support/verbs-pair.ts';

const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT' });

it('a batch larger than the queue is posted in pieces, and all of it arrives', async () => {
  await using pair = await connectedPair({ maxSendWr: 8, maxRecvWr: 8 });
  const COUNT = 1000;
  const local = await region(pair.left.domain, COUNT * 4);
  const remote = await region(pair.right.domain, COUNT * 4);
  const batch = new WorkRequestBatch(COUNT);
  for (let index = 0; index < COUNT; index += 1) {
    new DataView(local.memory.buffer).setUint32(index * 4, index * 7);
    batch.pushWrite(
      index,
      local.addr + BigInt(index * 4),
      4,
      local.lkey,
      remote.addr + BigInt(index * 4),
      remote.rkey,
    );
  }
  expect(pair.left.queuePair.postSend(batch)).toBe(8);
  const seen: number[] = [];
  let posted = 8;
  for await (const done of pair.left.queuePair.completions()) {
    for (let index = 0; index < done.length; index += 1) seen.push(done.wrIdNumber(index));
    posted += pair.left.queuePair.postSend(batch, posted);
    if (seen.length === COUNT) break;
  }
  expect(seen).toEqual(Array.from({ length: COUNT }, (_, index) => index));
  await pair.left.queuePair.disconnect();
  await pair.right.queuePair.closed;
  expect(Buffer.from(remote.memory).equals(Buffer.from(local.memory))).toBe(true);
});

it('completions that nobody takes fill the queue: nothing more is posted, and none is lost', async () => {
  await using pair = await connectedPair({ maxSendWr: 16, maxRecvWr: 16 });
  const remote = await region(pair.right.domain, 64);
  const local = await region(pair.left.domain, 64);
  const one = { opcode: 'RDMA_WRITE', ...local.range(), remoteAddr: remote.addr, rkey: remote.rkey } as const;
  let posted = 0;
  for (let idle = 0; idle < 20; ) {
    const now = pair.left.queuePair.postSend(
      Array.from({ length: 5 }, (_, at) => ({ ...one, wrId: posted + at })),
    );
    posted += now;
    idle = now === 0 ? idle + 1 : 0;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  expect(posted).toBeGreaterThanOrEqual(16);
  expect(posted).toBeLessThanOrEqual(32);
  const done = await complete(pair.left.queuePair, posted);
  expect(done.map(({ wrId }) => Number(wrId))).toEqual(Array.from({ length: posted }, (_, index) => index));
  expect(pair.left.queuePair.postSend([one])).toBe(1);
});

it('RECVs above the limit are not posted', async () => {
  await using pair = await connectedPair({ maxRecvWr: 4 });
  const room = await region(pair.left.domain, 64);
  const five = Array.from({ length: 5 }, (_, wrId) => ({ wrId, ...room.range() }));
  expect(pair.left.queuePair.postRecv(five)).toBe(4);
  expect(pair.left.queuePair.postRecv(five)).toBe(0);
});

it('what is posted before the connection is there waits for it', async () => {
  await using pair = await connectedPair();
  const queuePair = pair.left.domain.createQueuePair();
  const message = await region(pair.left.domain, 8, 7);
  const room = await region(pair.right.domain, 8);
  expect(queuePair.state).toBe('INIT');
  expect(queuePair.postSend([{ opcode: 'SEND', wrId: 4, ...message.range() }])).toBe(1);
  const other = pair.right.domain.createQueuePair();
  other.postRecv([room.range()]);
  const connecting = queuePair.connect({ host: '127.0.0.1', port: pair.listener.port });
  for await (const request of pair.listener) {
    await other.accept(request);
    break;
  }
  await connecting;
  expect(queuePair.state).toBe('RTS');
  expect(await complete(other, 1)).toHaveLength(1);
  expect([...room.memory]).toEqual(Array(8).fill(7));
});

describe('completions', () => {
  it('come to a callback, all in order, and stop when it is told to', async () => {
    await using pair = await connectedPair();
    const remote = await region(pair.right.domain, 64);
    const local = await region(pair.left.domain, 64);
    const write = {
      opcode: 'RDMA_WRITE',
      ...local.range(),
      remoteAddr: remote.addr,
      rkey: remote.rkey,
    } as const;
    const seen: bigint[] = [];
    const batch = new CompletionBatch(3);
    let stop = (): void => {};
    await new Promise<void>((resolve) => {
      stop = pair.left.queuePair.onCompletions(
        (completions) => {
          expect(completions.length).toBeGreaterThan(0);
          for (const { wrId } of completions) seen.push(wrId);
          if (seen.length === 100) resolve();
        },
        { batch },
      );
      pair.left.queuePair.postSend(Array.from({ length: 100 }, (_, wrId) => ({ ...write, wrId })));
    });
    stop();
    expect(seen).toEqual(Array.from({ length: 100 }, (_, index) => BigInt(index)));
    pair.left.queuePair.postSend([{ ...write, wrId: 100 }]);
    expect((await complete(pair.left.queuePair, 1)).map(({ wrId }) => wrId)).toEqual([100n]);
    expect(seen).toHaveLength(100);
  });

  it('can be polled without waiting', async () => {
    await using pair = await connectedPair();
    const message = await region(pair.left.domain, 64);
    const room = await region(pair.right.domain, 64);
    const batch = new CompletionBatch(4);
    expect(pair.right.queuePair.pollCompletions(batch)).toBe(0);
    pair.right.queuePair.postRecv([{ wrId: 8, ...room.range() }]);
    pair.left.queuePair.postSend([{ opcode: 'SEND', ...message.range() }]);
    while (pair.right.queuePair.pollCompletions(batch) === 0) await new Promise(setImmediate);
    expect([...batch]).toEqual([{ wrId: 8n, opcode: 'RECV', status: 'SUCCESS', byteLen: 64 }]);
    expect(() => batch.get(1)).toThrow(refused);
  });

  it('have one consumer at a time', async () => {
    await using pair = await connectedPair();
    const { queuePair } = pair.left;
    const stop = queuePair.onCompletions(() => {});
    expect(() => queuePair.onCompletions(() => {})).toThrow(refused);
    await expect(queuePair.completions().next()).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
    stop();
    const waiting = queuePair.completions({ signal: AbortSignal.timeout(20) });
    await expect(waiting.next()).rejects.toMatchObject({ code: 'CANCELLED', phase: 'verbs' });
    await queuePair.disconnect();
    expect(await queuePair.completions().next()).toEqual({ done: true, value: undefined });
  });

  it('do not starve timers while they come without end', async () => {
    await using pair = await connectedPair({ maxSendWr: 64 });
    const remote = await region(pair.right.domain, 64);
    const local = await region(pair.left.domain, 64);
    const requests = new WorkRequestBatch(64);
    for (let index = 0; index < 64; index += 1)
      requests.pushWrite(index, local.addr, 64, local.lkey, remote.addr, remote.rkey);
    let over = false;
    setTimeout(() => {
      over = true;
    }, 50);
    pair.left.queuePair.postSend(requests);
    let left = 0;
    for await (const batch of pair.left.queuePair.completions({ batch: new CompletionBatch(1) })) {
      if (over) break;
      left = batch.length + left;
      while (left > 0 && pair.left.queuePair.postSend(requests, 0, 1) === 1) left -= 1;
    }
    expect(over).toBe(true);
  });
});

it('a batch over shared memory is filled by whoever has it', async () => {
  await using pair = await connectedPair();
  const message = await region(pair.left.domain, 64, 3);
  const room = await region(pair.right.domain, 64);
  const shared = new SharedArrayBuffer(2 * WORK_REQUEST_BYTES + 5);
  const here = new WorkRequestBatch(shared);
  const there = new WorkRequestBatch(shared);
  expect(here.capacity).toBe(2);
  there.pushSend(1n, message.addr, 64, message.lkey);
  here.length = 1;
  pair.right.queuePair.postRecv([room.range()]);
  expect(pair.left.queuePair.postSend(here)).toBe(1);
  expect((await complete(pair.right.queuePair, 1))[0]?.byteLen).toBe(64);
});

it('a batch refuses what would be cut off, and more than it has room for', () => {
  const batch = new WorkRequestBatch(1);
  for (const addr of [-1n, 1n << 64n]) expect(() => batch.pushSend(0, addr, 0, 0)).toThrow(refused);
  for (const length of [-1, 1.5, 2 ** 32, Number.NaN, '7' as unknown as number])
    expect(() => batch.pushSend(0, 0n, length, 0)).toThrow(refused);
  for (const wrId of [-1, -1n, 2 ** 60, 1n << 64n])
    expect(() => batch.pushRecv(wrId, 0n, 0, 0)).toThrow(refused);
  expect(batch.length).toBe(0);
  batch.pushRecv((1n << 64n) - 1n, 0n, 0, 0);
  expect(() => batch.pushRecv(0, 0n, 0, 0)).toThrow(refused);
  for (const room of [0, -1, 65_537, new ArrayBuffer(39)])
    expect(() => new WorkRequestBatch(room)).toThrow(refused);
  for (const capacity of [0, 2 ** 21]) expect(() => new CompletionBatch(capacity)).toThrow(refused);
});

it('records that were written by hand are checked when they are posted', async () => {
  await using pair = await connectedPair();
  const batch = new WorkRequestBatch(2);
  batch.length = 1;
  batch.u32[9] = 0xff;
  expect(() => pair.left.queuePair.postSend(batch)).toThrow(refused);
  expect(() => pair.left.queuePair.postRecv(batch)).toThrow(refused);
  batch.u32[9] = 3; // a RECV
  expect(() => pair.left.queuePair.postSend(batch)).toThrow(refused);
  for (const [first, count] of [
    [2, 0],
    [0, 2],
    [1, 1],
    [-1, 1],
  ] as const)
    expect(() => pair.left.queuePair.postSend(batch, first, count)).toThrow(refused);
  structuredClone(batch.buffer, { transfer: [batch.buffer as ArrayBuffer] });
  expect(() => pair.left.queuePair.postSend(batch)).toThrow(refused);
  expect(pair.left.queuePair.state).toBe('RTS');
});

it('a batch whose buffer has been detached is refused, and no completion is lost', async () => {
  await using pair = await connectedPair();
  const { queuePair } = pair.left;
  const batch = new CompletionBatch(4);
  queuePair.postSend([{ opcode: 'SEND', wrId: 6, addr: 0n, length: 0, lkey: 0 }]);
  structuredClone(batch.bytes.buffer, { transfer: [batch.bytes.buffer as ArrayBuffer] });
  expect(() => queuePair.pollCompletions(batch)).toThrow(refused);
  await expect(queuePair.completions({ batch }).next()).rejects.toEqual(refused);
  expect((await complete(queuePair, 1)).map(({ wrId }) => wrId)).toEqual([6n]);
});
