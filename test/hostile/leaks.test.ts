/** Whatever goes wrong, and however often: descriptors, threads and mappings are given back, and the event loop lives. */
import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { MigrationDestination, MigrationSource, openImage } from '../../lib/index.ts';
import { collectGarbage, held, settled } from '../support/leaks.ts';
import { controlMessage, privateData } from '../support/raw-control.ts';
import { RawPeer, withDeadline } from '../support/raw-iwarp.ts';
import { RawListener } from '../support/raw-listener.ts';
import { failureOf, receiving } from '../support/receiving.ts';
import { ScriptedDestination } from '../support/scripted-destination.ts';
import { ScriptedSource, STAGES } from '../support/scripted-source.ts';
import { smallImage } from '../support/sending.ts';
import { SMALL_BLOCKS } from '../support/small-vm.ts';
import { temporaryFolder } from '../support/temp.ts';

const folder = await temporaryFolder();
const image = join(folder.path, 'vm');
beforeAll(() => smallImage(image));
afterAll(() => folder[Symbol.asyncDispose]());

/** Once to warm up what is kept on purpose (thread pools, caches), then counted. */
async function series(rounds: number, once: (round: number) => Promise<void>): Promise<void> {
  for (let round = 0; round < 4; round++) await once(round);
  const before = await held();
  const delays = monitorEventLoopDelay({ resolution: 10 });
  delays.enable();
  for (let round = 0; round < rounds; round++) {
    await once(round);
    if (round % 5 === 4) collectGarbage(); // what only waits for the collector is no leak
  }
  delays.disable();
  expect((await settled(before)).excess).toEqual({});
  expect(delays.count).toBeGreaterThan(0);
}

const DEEDS: readonly ((peer: RawPeer) => void)[] = [
  (peer) => peer.kill(),
  (peer) => peer.finish(),
  (peer) => peer.send(controlMessage('ERROR')),
  (peer) => peer.send(controlMessage(99)),
  (peer) => peer.write(1, 2n, Buffer.alloc(3)),
  (peer) => peer.frame(Buffer.alloc(5)),
];

/** From the first message on; before it a peer is a stranger, whose end is nobody's failure. */
const SERVED = STAGES.slice(1);

it('60 destinations whose sources fail, at every stage and in every way', async () => {
  await series(60, async (round) => {
    await using received = await receiving();
    const options = { commit: true, pinAll: round % 2 === 1, crc: round % 3 === 1 };
    await using source = await ScriptedSource.connect(received.port, options);
    await source.reach(SERVED[round % SERVED.length] ?? 'ram');
    DEEDS[(round * 7) % DEEDS.length]?.(source.peer);
    await failureOf(received.result, 'the destination');
  });
});

it('40 refused peers, in one wait', async () => {
  await using received = await receiving();
  await series(40, async (round) => {
    await using peer = await RawPeer.tcp(received.port);
    await peer.request(privateData({ version: round + 2 }));
    if (round % 2 === 0) await peer.untilEnd();
  });
});

it('60 strangers that are let in, in one wait', async () => {
  await using received = await receiving();
  await series(60, async (round) => {
    await using peer = await RawPeer.tcp(received.port);
    await peer.request(privateData({ commit: true }), { crc: round % 3 === 1 });
    DEEDS[(round * 7) % DEEDS.length]?.(peer);
    await peer.untilEnd();
  });
  await received.destination.close();
});

it('60 sources whose destinations fail, at every message and in every way', async () => {
  await series(60, async (round) => {
    await using listener = await RawListener.open();
    const blocks = SMALL_BLOCKS.map(({ length }, index) => ({
      address: BigInt(index + 1) << 32n,
      offset: BigInt(index) << 32n,
      length,
      rkey: index + 1,
    }));
    const destination = new ScriptedDestination({
      blocks,
      pinAll: round % 2 === 1,
      commit: true,
      beforeReady: (count, { peer }) => {
        if (count < round % 10) return undefined;
        DEEDS[(round * 7) % 4]?.(peer);
        return Promise.resolve('over');
      },
    });
    const served = destination.serve(listener);
    await using vm = await openImage(image);
    const source = new MigrationSource(vm, listener.uri, { pinAll: round % 2 === 1 });
    await failureOf(source.migrate(), 'the source');
    await withDeadline(served, 'the script');
  });
});

it('30 migrations that are cancelled on the way', async () => {
  await series(30, async (round) => {
    await using received = await receiving();
    await using vm = await openImage(image);
    const abort = new AbortController();
    const source = new MigrationSource(vm, received.destination.uri, { maxBandwidth: 4_000_000n });
    const at = (['setup', 'ram', 'device-state'] as const)[round % 3];
    source.on('phase', (phase) => {
      if (phase === at) abort.abort();
    });
    expect((await failureOf(source.migrate({ signal: abort.signal }), 'the source')).code).toBe('CANCELLED');
    // Nothing had been said by then: the destination waits for the next source.
    if (at === 'setup') return;
    const code = (await failureOf(received.result, 'the destination')).code;
    expect(['PEER_ERROR', 'CONNECTION_LOST']).toContain(code);
  });
});

it('60 listeners that nobody comes to', async () => {
  await series(60, async () => {
    const nothing = () => Promise.reject(new Error('nobody came'));
    const target = { allocate: nothing, append: nothing, commit: nothing, abort: () => Promise.resolve() };
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target);
    const result = destination.receive();
    result.catch(() => {});
    await destination.close();
    expect((await failureOf(result, 'the destination')).code).toBe('CANCELLED');
  });
});
