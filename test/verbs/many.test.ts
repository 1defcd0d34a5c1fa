/** Many queue pairs of one domain, and random traffic on one. */
import { listen, openDomain, type QueuePair, WorkRequestBatch } from 'rdma-migrate/verbs';
import { expect, it } from 'vitest';
import { collectGarbage, held, settled } from '../support/leaks.ts';
import { seededRandom } from '../support/seed.ts';
import { ALL, complete, connectedPair, drain, LOOPBACK, nextRequest } from '../support/verbs-pair.ts';

const QUEUE_PAIRS = 64;

it('64 queue pairs of one domain use one region, and end by themselves', async () => {
  await using left = await openDomain({ provider: 'iwarp' });
  await using right = await openDomain({ provider: 'iwarp' });
  await using listener = await listen(LOOPBACK, { provider: 'iwarp' });
  const endpoint = { host: '127.0.0.1', port: listener.port };
  const local = await left.registerMemory(new SharedArrayBuffer(QUEUE_PAIRS * 8), ALL);
  const remote = await right.registerMemory(new SharedArrayBuffer(QUEUE_PAIRS * 8), ALL);
  local.memory.forEach((_, index) => {
    local.memory[index] = index * 7;
  });
  const senders: QueuePair[] = [];
  const receivers: QueuePair[] = [];
  for (let index = 0; index < QUEUE_PAIRS; index += 1) {
    const [sender, receiver] = [left.createQueuePair(), right.createQueuePair()];
    receiver.postRecv([{ wrId: index, addr: 0n, length: 0, lkey: 0 }]);
    const connecting = sender.connect(endpoint);
    await receiver.accept(await nextRequest(listener));
    await connecting;
    senders.push(sender);
    receivers.push(receiver);
  }
  senders.forEach((sender, index) => {
    sender.postSend([
      {
        opcode: 'RDMA_WRITE',
        ...local.range(index * 8, 8),
        remoteAddr: remote.addr + BigInt(index * 8),
        rkey: remote.rkey,
        signaled: false,
      },
      { opcode: 'SEND', addr: 0n, length: 0, lkey: 0 },
    ]);
  });
  const arrived = await Promise.all(receivers.map((receiver) => complete(receiver, 1)));
  expect(arrived.map(([first]) => Number(first?.wrId))).toEqual(senders.map((_, index) => index));
  expect(Buffer.from(remote.memory).equals(Buffer.from(local.memory))).toBe(true);
  await senders[0]?.close();
  expect(await receivers[0]?.closed).toBeNull();
  expect(senders.slice(1).every(({ state }) => state === 'RTS')).toBe(true);
});

const ROUNDS = 60;
const SLOT = 4096;
const SLOTS = 32;

/**
 * Random batches of SENDs, WRITEs and READs, of random lengths, some unsignaled, between regions of which each request uses slots that no
 * other one under way does. What must be where is kept beside it.
 */
it('random batches put the right bytes in the right places, and complete in order', async () => {
  const random = seededRandom('random batches');
  const any = (below: number): number => Math.floor(random() * below);
  await using pair = await connectedPair({ maxSendWr: SLOTS, maxRecvWr: SLOTS, crc: any(2) === 1 });
  const memory = () => new SharedArrayBuffer(SLOT * SLOTS);
  const local = await pair.left.domain.registerMemory(memory(), ALL);
  const remote = await pair.right.domain.registerMemory(memory(), ALL);
  const [here, there] = [Buffer.alloc(SLOT * SLOTS), Buffer.alloc(SLOT * SLOTS)];
  const batch = new WorkRequestBatch(SLOTS);
  const recvs = new WorkRequestBatch(SLOTS);
  for (let round = 0; round < ROUNDS; round += 1) {
    const count = 1 + any(SLOTS);
    batch.clear();
    recvs.clear();
    const expected: (number | string)[][] = [];
    const received: number[][] = [];
    for (let slot = 0; slot < count; slot += 1) {
      const wrId = round * SLOTS + slot;
      const length = any(4) === 0 ? any(2) : any(SLOT + 1);
      const start = slot * SLOT;
      const signaled = slot === count - 1 || any(3) > 0;
      local.memory.fill(any(256), start, start + SLOT);
      here.set(local.memory.subarray(start, start + SLOT), start);
      const at = local.addr + BigInt(start);
      const to = remote.addr + BigInt(start);
      const kind = any(3);
      if (kind === 0) {
        recvs.pushRecv(wrId, to, SLOT, remote.lkey);
        batch.pushSend(wrId, at, length, local.lkey, signaled);
        received.push([wrId, length]);
        here.copy(there, start, start, start + length);
      } else if (kind === 1) {
        batch.pushWrite(wrId, at, length, local.lkey, to, remote.rkey, signaled);
        here.copy(there, start, start, start + length);
      } else {
        batch.pushRead(wrId, at, length, local.lkey, to, remote.rkey, signaled);
        there.copy(here, start, start, start + length);
      }
      if (signaled)
        expected.push([wrId, ['SEND', 'RDMA_WRITE', 'RDMA_READ'][kind] as string, kind === 2 ? length : 0]);
    }
    expect(pair.right.queuePair.postRecv(recvs)).toBe(recvs.length);
    expect(pair.left.queuePair.postSend(batch)).toBe(count);
    const done = await complete(pair.left.queuePair, expected.length);
    expect(done.map(({ wrId, opcode, byteLen }) => [Number(wrId), opcode, byteLen])).toEqual(expected);
    const arrived = await complete(pair.right.queuePair, received.length);
    expect(arrived.map(({ wrId, byteLen }) => [Number(wrId), byteLen])).toEqual(received);
    // A READ comes back after everything before it has been placed.
    batch.clear().pushRead(0, local.addr, 0, local.lkey, remote.addr, remote.rkey);
    pair.left.queuePair.postSend(batch);
    await complete(pair.left.queuePair, 1);
    expect(Buffer.from(local.memory).equals(here)).toBe(true);
    expect(Buffer.from(remote.memory).equals(there)).toBe(true);
  }
  await pair.left.queuePair.disconnect();
  expect(await pair.right.queuePair.closed).toBeNull();
  expect(await drain(pair.right.queuePair)).toEqual([]);
});

it('queue pairs that come and go leave nothing', async () => {
  const once = async (): Promise<void> => {
    await using pair = await connectedPair();
    const room = await pair.right.domain.registerMemory(new SharedArrayBuffer(64));
    pair.right.queuePair.postRecv([room.range()]);
  };
  await once(); // the engine's threads stay
  const before = await held();
  for (let round = 0; round < 40; round += 1) await once();
  expect(await settled(before)).toEqual({ excess: {} });
});

it('a queue pair that has ended is collected with all that it holds', async () => {
  const connectAndEnd = async () => {
    await using pair = await connectedPair();
    const room = await pair.right.domain.registerMemory(new ArrayBuffer(64));
    pair.right.queuePair.onCompletions(() => {});
    return [pair.left.queuePair, pair.right.queuePair, pair.left.domain, room.memory].map(
      (object) => new WeakRef<object>(object),
    );
  };
  const objects = await connectAndEnd();
  for (let round = 0; round < 20 && objects.some((object) => object.deref() !== undefined); round += 1) {
    await new Promise((resolve) => setTimeout(resolve, 10));
    collectGarbage();
  }
  expect(objects.map((object) => object.deref())).toEqual(objects.map(() => undefined));
});
