/** What both ends do on a queue pair whose peer leaves in the middle. */
import { setImmediate as turn } from 'node:timers/promises';
import { expect, it } from 'vitest';
import { BufferMemory, Buffers } from '../../lib/bench/measure/buffers.ts';
import { Lane } from '../../lib/bench/measure/lane.ts';
import { PingPong } from '../../lib/bench/measure/latency.ts';
import { Responder, responderQueues } from '../../lib/bench/measure/responder.ts';
import type { Shape } from '../../lib/bench/wire/messages.ts';
import { listen, openDomain, type QueuePair } from '../../lib/verbs/index.ts';

const shape: Shape = { operation: 'send', mode: 'latency', messageBytes: 64, depth: 1, queuePairs: 1 };
const LONG_MS = 10_000;

/** Lets nothing of this thread run until the queue pair has ended. */
function blockUntilEnded(queuePair: QueuePair): void {
  const late = performance.now() + LONG_MS;
  while (queuePair.state !== 'ERROR' && performance.now() < late);
}

it('a post upon a message of a peer that has gone since is no uncaught exception', async () => {
  await using domain = await openDomain({ provider: 'iwarp' });
  await using buffers = await Buffers.register(domain, new BufferMemory(), shape);
  const here = domain.createQueuePair(responderQueues(shape));
  let accepted: Promise<unknown> = Promise.resolve();
  await using listener = await listen({ host: '127.0.0.1', port: 0 }, { provider: 'iwarp' }, (request) => {
    new Responder(here, buffers, shape, 0, { addr: 0n, length: 0, rkey: 0 });
    accepted = here.accept(request);
  });
  const peer = domain.createQueuePair();
  await peer.connect({ host: '127.0.0.1', port: listener.port });
  await accepted;
  peer.postSend(buffers.messages('send', 1, 0, buffers.place, 1));
  void peer.disconnect();
  blockUntilEnded(here);
  expect(here.state).toBe('ERROR');
  for (let turns = 0; turns < 10; turns++) await turn();
  expect(() => here.postSend(buffers.note('SEND'))).toThrow(
    expect.objectContaining({ code: 'CONNECTION_CLOSED' }),
  );
});

it.each(['throughput', 'latency'] as const)(
  'a peer that leaves in good order in the middle of a round is CONNECTION_CLOSED (%s)',
  async (mode) => {
    await using domain = await openDomain({ provider: 'iwarp' });
    await using buffers = await Buffers.register(domain, new BufferMemory(), shape);
    const silent = domain.createQueuePair();
    silent.postRecv(buffers.rooms(4, 0));
    let accepted: Promise<unknown> = Promise.resolve();
    await using listener = await listen({ host: '127.0.0.1', port: 0 }, { provider: 'iwarp' }, (request) => {
      accepted = silent.accept(request);
    });
    const here = domain.createQueuePair();
    const given = [here, buffers, { ...shape, mode }, 0, buffers.place] as const;
    const measuring = mode === 'latency' ? new PingPong(...given) : new Lane(...given);
    await here.connect({ host: '127.0.0.1', port: listener.port });
    await accepted;
    const round = measuring.run(() => false);
    const ended = expect(round).rejects.toMatchObject({
      code: 'CONNECTION_CLOSED',
      message: expect.stringContaining('in the middle of a round'),
    });
    await silent.disconnect();
    await ended;
  },
);
