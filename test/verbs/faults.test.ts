/** What is refused, by this side when it is posted and by the peer when it arrives, and how both queue pairs end. */

import { type MigrationError, WorkRequestBatch } from 'rdma-migrate/verbs';
import { describe, expect, it } from 'vitest';
import { seededRandom } from '../support/seed.ts';
import { complete, connectedPair, drain, type Pair, region } from '../support/verbs-pair.ts';

const U64_MAX = (1n << 64n) - 1n;

interface Ended {
  readonly left: MigrationError | null;
  readonly right: MigrationError | null;
}

async function ends({ left, right }: Pair): Promise<Ended> {
  const [one, other] = await Promise.all([left.queuePair.closed, right.queuePair.closed]);
  expect([left.queuePair.state, right.queuePair.state]).toEqual(['ERROR', 'ERROR']);
  return { left: one, right: other };
}

const codes = ({ left, right }: Ended): unknown => [left?.code, right?.code];

describe('the peer refuses', () => {
  it.each([
    { what: 'an rkey that it never gave', change: { rkey: 0x1234_5678 } },
    { what: 'a range that begins before the region', change: { shift: -1n } },
    { what: 'a range that ends after the region', change: { shift: 1n } },
    { what: 'a range at the end of the address space', change: { addr: U64_MAX - 2n } },
  ])('a WRITE with $what', async ({ change }) => {
    await using pair = await connectedPair();
    const remote = await region(pair.right.domain, 64, 0xee);
    const local = await region(pair.left.domain, 64, 1);
    const {
      rkey = remote.rkey,
      shift = 0n,
      addr = remote.addr + shift,
    } = change as {
      rkey?: number;
      shift?: bigint;
      addr?: bigint;
    };
    pair.left.queuePair.postSend([{ opcode: 'RDMA_WRITE', ...local.range(), remoteAddr: addr, rkey }]);
    expect(codes(await ends(pair))).toEqual(['TERMINATE_RECEIVED', 'REMOTE_ACCESS_ERROR']);
    expect(remote.memory.every((byte) => byte === 0xee)).toBe(true);
  });

  it('a WRITE and a READ without the right to it', async () => {
    for (const opcode of ['RDMA_WRITE', 'RDMA_READ'] as const) {
      await using pair = await connectedPair();
      const access = {
        localWrite: true,
        remoteWrite: opcode === 'RDMA_READ',
        remoteRead: opcode === 'RDMA_WRITE',
      };
      const remote = await region(pair.right.domain, 64, 0xee, access);
      const local = await region(pair.left.domain, 64, 1);
      pair.left.queuePair.postSend([
        { opcode, wrId: 5, ...local.range(), remoteAddr: remote.addr, rkey: remote.rkey },
      ]);
      expect(codes(await ends(pair))).toEqual(['TERMINATE_RECEIVED', 'REMOTE_ACCESS_ERROR']);
      expect([...remote.memory, ...local.memory].sort()).toEqual([
        ...Array(64).fill(1),
        ...Array(64).fill(0xee),
      ]);
    }
  });

  it('a WRITE to a region that has been closed, and to one of a domain whose rights were revoked', async () => {
    for (const how of ['close', 'revoke'] as const) {
      await using pair = await connectedPair();
      const remote = await region(pair.right.domain, 64, 0xee);
      const local = await region(pair.left.domain, 64, 1);
      if (how === 'close') await remote.close();
      else await pair.right.domain.revokeRemoteAccess();
      pair.left.queuePair.postSend([
        { opcode: 'RDMA_WRITE', ...local.range(), remoteAddr: remote.addr, rkey: remote.rkey },
      ]);
      expect(codes(await ends(pair))).toEqual(['TERMINATE_RECEIVED', 'REMOTE_ACCESS_ERROR']);
      expect(remote.memory.every((byte) => byte === 0xee)).toBe(true);
    }
  });

  it('a SEND for which no RECV is posted: there is no RNR retry in iWARP', async () => {
    await using pair = await connectedPair();
    const message = await region(pair.left.domain, 64);
    pair.left.queuePair.postSend([{ opcode: 'SEND', ...message.range() }]);
    expect(codes(await ends(pair))).toEqual(['TERMINATE_RECEIVED', 'WIRE_ERROR']);
  });

  it('a SEND that is longer than the RECV, whose memory stays as it was', async () => {
    await using pair = await connectedPair();
    const message = await region(pair.left.domain, 65, 1);
    const room = await region(pair.right.domain, 128, 0xee);
    pair.right.queuePair.postRecv([{ wrId: 3, ...room.range(0, 64) }]);
    pair.left.queuePair.postSend([{ opcode: 'SEND', ...message.range() }]);
    expect(codes(await ends(pair))).toEqual(['TERMINATE_RECEIVED', 'WIRE_ERROR']);
    expect((await drain(pair.right.queuePair)).map(({ wrId, status }) => [wrId, status])).toEqual([
      [3n, 'WR_FLUSH_ERR'],
    ]);
    expect(room.memory.every((byte) => byte === 0xee)).toBe(true);
  });
});

it('the iterator gives what was flushed, and then throws why', async () => {
  await using pair = await connectedPair();
  const room = await region(pair.left.domain, 64);
  const local = await region(pair.left.domain, 64);
  pair.left.queuePair.postRecv([1, 2, 3].map((wrId) => ({ wrId, ...room.range() })));
  const seen: unknown[] = [];
  const consuming = (async () => {
    for await (const batch of pair.left.queuePair.completions())
      for (const { wrId, opcode, status } of batch) if (opcode === 'RECV') seen.push([wrId, status]);
  })();
  pair.left.queuePair.postSend([{ opcode: 'RDMA_WRITE', ...local.range(), remoteAddr: 4096n, rkey: 1 }]);
  await expect(consuming).rejects.toMatchObject({
    name: 'MigrationError',
    code: 'TERMINATE_RECEIVED',
    phase: 'verbs',
  });
  expect(seen).toEqual([1n, 2n, 3n].map((wrId) => [wrId, 'WR_FLUSH_ERR']));
});

describe('a post refuses, and posts what stands before', () => {
  it.each([
    { what: 'a key of no region', change: { lkey: 0x7654_3210 } },
    { what: 'a range that leaves its region', change: { length: 65 } },
    { what: 'a range that begins before it', change: { shift: -1n } },
    { what: 'a range that wraps around', change: { addr: U64_MAX } },
  ])('$what', async ({ change }) => {
    await using pair = await connectedPair();
    const { shift = 0n, ...fields } = change as { shift?: bigint };
    const message = await region(pair.left.domain, 64);
    const rooms = await region(pair.right.domain, 64);
    const good = { opcode: 'SEND', ...message.range() } as const;
    const bad = { ...good, addr: message.addr + shift, ...fields };
    pair.right.queuePair.postRecv([rooms.range(), rooms.range(), rooms.range()]);
    expect(() => pair.left.queuePair.postSend([good, good, bad, good])).toThrow(
      expect.objectContaining({ code: 'INVALID_ARGUMENT', phase: 'verbs', details: { posted: 2 } }),
    );
    expect(await complete(pair.right.queuePair, 2)).toHaveLength(2);
    expect(pair.left.queuePair.state).toBe('RTS');
    expect(pair.left.queuePair.postSend([good])).toBe(1);
  });

  it('memory for received data without the right to write it', async () => {
    await using pair = await connectedPair();
    const sealed = await region(pair.left.domain, 64, 0, {});
    const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT' });
    expect(() => pair.left.queuePair.postRecv([sealed.range()])).toThrow(refused);
    const read = { opcode: 'RDMA_READ', ...sealed.range(), remoteAddr: 0n, rkey: 0 } as const;
    expect(() => pair.left.queuePair.postSend([read])).toThrow(refused);
  });

  it('a region of another domain, and one that has been closed', async () => {
    await using pair = await connectedPair();
    const foreign = await region(pair.right.domain, 64);
    const closed = await region(pair.left.domain, 64);
    const range = closed.range();
    await closed.close();
    const refused = expect.objectContaining({ code: 'INVALID_ARGUMENT' });
    expect(() => pair.left.queuePair.postSend([{ opcode: 'SEND', ...foreign.range() }])).toThrow(refused);
    expect(() => pair.left.queuePair.postSend([{ opcode: 'SEND', ...range }])).toThrow(refused);
    expect(() => closed.range()).toThrow(expect.objectContaining({ code: 'CLOSED' }));
  });
});

it('a region that is closed under a RECV ends the queue pair when a message comes for it', async () => {
  await using pair = await connectedPair();
  const message = await region(pair.left.domain, 64, 1);
  const room = await region(pair.right.domain, 64, 0xee);
  pair.right.queuePair.postRecv([room.range()]);
  await room.close();
  pair.left.queuePair.postSend([{ opcode: 'SEND', ...message.range() }]);
  const { left, right } = await ends(pair);
  expect(left).not.toBeNull();
  expect(right?.code).toBe('INVALID_ARGUMENT');
  expect(room.memory.every((byte) => byte === 0xee)).toBe(true);
});

it('records of random bytes are posted or refused, and harm nothing', async () => {
  const random = seededRandom('random records');
  const any = (below: number): number => Math.floor(random() * below);
  for (let round = 0; round < 30; round += 1) {
    await using pair = await connectedPair({ stallTimeoutMs: 2_000 });
    const { queuePair } = pair.left;
    const mine = await region(pair.left.domain, 4096);
    const theirs = await region(pair.right.domain, 4096, 0xee, {});
    const batch = new WorkRequestBatch(64);
    for (let at = 0; at < batch.u32.length; at += 1) batch.u32[at] = any(2 ** 32);
    for (let at = 0; at < 64; at += 1) {
      if (any(3) > 0) batch.u32[at * 10 + 9] = any(4) | (any(2) << 8);
      if (any(2) === 0) batch.u32[at * 10 + 7] = mine.lkey;
      if (any(2) === 0) batch.u64[at * 5 + 1] = mine.addr + BigInt(any(5000));
      if (any(2) === 0) batch.u32[at * 10 + 6] = any(5000);
      if (any(2) === 0) batch.u32[at * 10 + 8] = theirs.rkey;
      if (any(2) === 0) batch.u64[at * 5 + 2] = theirs.addr + BigInt(any(5000));
    }
    batch.length = 64;
    for (let at = 0; at < 64; at += 1) {
      for (const post of [queuePair.postSend, queuePair.postRecv]) {
        try {
          post.call(queuePair, batch, at, 1);
        } catch (error) {
          expect((error as MigrationError).code).toMatch(/^(INVALID_ARGUMENT|CONNECTION_CLOSED)$/);
        }
      }
    }
    await queuePair.close();
    await pair.right.queuePair.closed;
    expect(theirs.memory.every((byte) => byte === 0xee)).toBe(true);
  }
});
