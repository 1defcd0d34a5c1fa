/** Queue pairs that outlive their connection, through somebody who cuts it. */

import { type LinkChange, listen, openDomain, type QueuePair } from 'rdma-migrate/verbs';
import { expect, it } from 'vitest';
import type { Cut } from '../campaign/links/case.ts';
import { CuttingProxy } from '../campaign/links/cutting-proxy.ts';
import { LOOPBACK, nextRequest, region } from '../support/verbs-pair.ts';

const RESUME = { windowMs: 20_000, retryMs: 5 };
const MESSAGES = 400;
const DEPTH = 16;
const BYTES = 1024;

/** Two ends whose connection goes through the proxy. */
async function apart(cuts: readonly Cut[], resume: { left?: typeof RESUME; right?: typeof RESUME }) {
  const domains = [await openDomain({ provider: 'iwarp' }), await openDomain({ provider: 'iwarp' })] as const;
  const listener = await listen(LOOPBACK, { provider: 'iwarp' });
  const proxy = await CuttingProxy.open(listener.port, cuts);
  const left = domains[0].createQueuePair({ ...(resume.left && { resume: resume.left }) });
  const right = domains[1].createQueuePair({ ...(resume.right && { resume: resume.right }) });
  const connecting = left.connect({ host: '127.0.0.1', port: Number(proxy.uri.split(':').at(-1)) });
  await right.accept(await nextRequest(listener), { maySendAtOnce: true });
  await connecting;
  return {
    proxy,
    ends: [
      { domain: domains[0], queuePair: left },
      { domain: domains[1], queuePair: right },
    ] as const,
    async [Symbol.asyncDispose]() {
      await proxy[Symbol.asyncDispose]();
      await listener.close();
      await Promise.all(domains.map((domain) => domain.close()));
    },
  };
}

/** Sends numbered messages, and takes the peer's: their numbers, in the order in which they came. */
async function talk({
  domain,
  queuePair,
}: {
  domain: Awaited<ReturnType<typeof openDomain>>;
  queuePair: QueuePair;
}) {
  const out = await region(domain, DEPTH * BYTES);
  const inbox = await region(domain, 2 * DEPTH * BYTES);
  const recv = (slot: number) => ({
    wrId: BigInt(slot),
    addr: inbox.addr + BigInt(slot * BYTES),
    length: BYTES,
    lkey: inbox.lkey,
  });
  for (let slot = 0; slot < 2 * DEPTH; slot += 1) queuePair.postRecv([recv(slot)]);
  const numbers: number[] = [];
  let sent = 0;
  let done = 0;
  const send = (): void => {
    for (; sent < MESSAGES && sent - done < DEPTH; sent += 1) {
      const at = (sent % DEPTH) * BYTES;
      new DataView(out.memory.buffer, out.memory.byteOffset).setUint32(at, sent);
      queuePair.postSend([
        { opcode: 'SEND', wrId: BigInt(sent), addr: out.addr + BigInt(at), length: BYTES, lkey: out.lkey },
      ]);
    }
  };
  send();
  for await (const batch of queuePair.completions()) {
    for (const { opcode, wrId, status } of batch) {
      expect(status).toBe('SUCCESS');
      if (opcode === 'RECV') {
        const at = Number(wrId) * BYTES;
        numbers.push(new DataView(inbox.memory.buffer, inbox.memory.byteOffset).getUint32(at));
        queuePair.postRecv([recv(Number(wrId))]);
      } else {
        expect(Number(wrId)).toBe(done);
        done += 1;
      }
    }
    send();
    if (done === MESSAGES && numbers.length === MESSAGES) break;
  }
  return numbers;
}

const cut = (after: number, how: Cut['how']): Cut => ({ after, how, all: true, outageMs: 5 });

it('lose no message and repeat none, and tell of each link', async () => {
  await using pair = await apart([cut(20_000, 'reset'), cut(60_001, 'end'), cut(90_000, 'silence')], {
    left: RESUME,
    right: RESUME,
  });
  const { proxy, ends } = pair;
  const changes: LinkChange[] = [];
  const states: string[] = [];
  ends[0].queuePair.onLinkChange((change) => {
    changes.push(change);
    states.push(ends[0].queuePair.state);
  });
  expect(ends.map(({ queuePair }) => queuePair.info.resumable)).toEqual([true, true]);
  proxy.begin();
  const numbers = await Promise.all(ends.map(talk));
  const all = Array.from({ length: MESSAGES }, (_, number) => number);
  expect(numbers).toEqual([all, all]);
  expect(proxy.made).toBe(3);
  expect(changes.map(({ state }) => state)).toEqual(Array(3).fill(['lost', 'restored']).flat());
  expect(changes[0]).toMatchObject({ reason: { code: 'CONNECTION_LOST' } });
  const counters = ends[0].queuePair.counters;
  expect(counters.resumes).toBe(3);
  expect(counters.payloadResent).toBeGreaterThan(0n);
});

it.each([
  ['neither end', {}],
  ['one end', { left: RESUME }],
  ['the other one', { right: RESUME }],
] as const)('end as ever where %s has it', async (_, resume) => {
  await using pair = await apart([cut(20_000, 'reset')], resume);
  const { proxy, ends } = pair;
  expect(ends.map(({ queuePair }) => queuePair.info.resumable)).toEqual([false, false]);
  proxy.begin();
  const talks = await Promise.allSettled(ends.map(talk));
  for (const { status } of talks) expect(status).toBe('rejected');
  for (const { queuePair } of ends) expect(await queuePair.closed).toMatchObject({ code: 'CONNECTION_LOST' });
});

it('say which option of it is wrong', async () => {
  await using domain = await openDomain({ provider: 'iwarp' });
  const wrong = (resume: unknown) => () => domain.createQueuePair({ resume } as never);
  expect(wrong({ windowMs: 0 })).toThrow(/windowMs/);
  expect(wrong({})).toThrow(/windowMs/);
  expect(wrong({ windowMs: 1, retryMs: 0 })).toThrow(/retryMs/);
  expect(wrong(5)).toThrow(/resume/);
});
