import { describe, expect, it } from 'vitest';
import { complete, connectedPair, type End, region } from '../support/verbs-pair.ts';

const SIZES = [0, 1, 7, 4096, 100_003, 3 << 20];

function pattern(bytes: number, seed: number): Uint8Array {
  return Uint8Array.from({ length: bytes }, (_, index) => (index * 31 + seed + (index >> 8)) & 0xff);
}

const ways = [
  { name: 'who connected to who accepted', from: 'left', to: 'right' },
  { name: 'who accepted to who connected', from: 'right', to: 'left' },
] as const;

describe.each(ways)('from $name', ({ from, to }) => {
  async function between(body: (source: End, sink: End) => Promise<void>): Promise<void> {
    await using pair = await connectedPair();
    await body(pair[from], pair[to]);
  }

  it.each(SIZES)('a SEND of %i bytes fills the oldest RECV, and nothing after its end', (bytes) =>
    between(async (source, sink) => {
      const message = await region(source.domain, Math.max(1, bytes));
      const room = await region(sink.domain, bytes + 16, 0xee);
      message.memory.set(pattern(bytes, 3));
      expect(sink.queuePair.postRecv([{ wrId: 11n, ...room.range() }])).toBe(1);
      expect(source.queuePair.postSend([{ opcode: 'SEND', wrId: 22n, ...message.range(0, bytes) }])).toBe(1);
      expect(await complete(sink.queuePair, 1)).toEqual([
        { wrId: 11n, opcode: 'RECV', status: 'SUCCESS', byteLen: bytes },
      ]);
      expect(await complete(source.queuePair, 1)).toEqual([
        { wrId: 22n, opcode: 'SEND', status: 'SUCCESS', byteLen: 0 },
      ]);
      expect(Buffer.from(room.memory.slice(0, bytes)).equals(pattern(bytes, 3))).toBe(true);
      expect(room.memory.slice(bytes).every((byte) => byte === 0xee)).toBe(true);
    }),
  );

  it.each(SIZES)('an RDMA_WRITE of %i bytes is there before the SEND after it', (bytes) =>
    between(async (source, sink) => {
      const local = await region(source.domain, Math.max(1, bytes));
      const remote = await region(sink.domain, bytes + 32, 0xee);
      local.memory.set(pattern(bytes, 5));
      sink.queuePair.postRecv([remote.range(0, 0)]);
      source.queuePair.postSend([
        {
          opcode: 'RDMA_WRITE',
          wrId: 1,
          ...local.range(0, bytes),
          remoteAddr: remote.addr + 16n,
          rkey: remote.rkey,
        },
        { opcode: 'SEND', wrId: 2, addr: 0n, length: 0, lkey: 0 },
      ]);
      await complete(sink.queuePair, 1);
      expect(Buffer.from(remote.memory.slice(16, 16 + bytes)).equals(pattern(bytes, 5))).toBe(true);
      const around = [...remote.memory.slice(0, 16), ...remote.memory.slice(16 + bytes)];
      expect(around.every((byte) => byte === 0xee)).toBe(true);
      const done = await complete(source.queuePair, 2);
      expect(done.map(({ wrId, opcode, status }) => [wrId, opcode, status])).toEqual([
        [1n, 'RDMA_WRITE', 'SUCCESS'],
        [2n, 'SEND', 'SUCCESS'],
      ]);
    }),
  );

  it.each(SIZES)('an RDMA_READ of %i bytes brings what is there', (bytes) =>
    between(async (source, sink) => {
      const local = await region(source.domain, bytes + 16, 0xee);
      const remote = await region(sink.domain, Math.max(1, bytes));
      remote.memory.set(pattern(bytes, 7));
      source.queuePair.postSend([
        {
          opcode: 'RDMA_READ',
          wrId: 9,
          ...local.range(0, bytes),
          remoteAddr: remote.addr,
          rkey: remote.rkey,
        },
      ]);
      expect(await complete(source.queuePair, 1)).toEqual([
        { wrId: 9n, opcode: 'RDMA_READ', status: 'SUCCESS', byteLen: bytes },
      ]);
      expect(Buffer.from(local.memory.slice(0, bytes)).equals(pattern(bytes, 7))).toBe(true);
      expect(local.memory.slice(bytes).every((byte) => byte === 0xee)).toBe(true);
    }),
  );
});

it('private data goes both ways', async () => {
  await using pair = await connectedPair();
  expect(Buffer.from(pair.left.privateData).toString()).toBe('from the right');
  expect(Buffer.from(pair.right.privateData).toString()).toBe('from the left');
});

it('an unsignaled request has no completion, and its place is free with the next signaled one', async () => {
  await using pair = await connectedPair({ maxSendWr: 4 });
  const remote = await region(pair.right.domain, 64);
  const local = await region(pair.left.domain, 64, 1);
  const write = {
    opcode: 'RDMA_WRITE',
    ...local.range(),
    remoteAddr: remote.addr,
    rkey: remote.rkey,
  } as const;
  for (let round = 0; round < 10; round += 1) {
    const three = Array.from({ length: 3 }, () => ({ ...write, signaled: false }));
    expect(pair.left.queuePair.postSend([...three, { ...write, wrId: round }])).toBe(4);
    const done = await complete(pair.left.queuePair, 1);
    expect(done.map(({ wrId }) => wrId)).toEqual([BigInt(round)]);
  }
});

it('counters and info tell of the connection', async () => {
  await using pair = await connectedPair({ crc: true });
  const { queuePair } = pair.left;
  expect(queuePair.info).toMatchObject({
    provider: 'iwarp',
    crc: true,
    peerAddress: `127.0.0.1:${pair.listener.port}`,
  });
  const message = await region(pair.left.domain, 1000);
  const room = await region(pair.right.domain, 1000);
  pair.right.queuePair.postRecv([room.range()]);
  queuePair.postSend([{ opcode: 'SEND', ...message.range() }]);
  await complete(pair.right.queuePair, 1);
  await complete(queuePair, 1); // what has left is counted by then
  expect(pair.right.queuePair.counters.payloadReceived).toBe(1000n);
  expect(queuePair.counters.bytesSent).toBeGreaterThan(1000n);
});
