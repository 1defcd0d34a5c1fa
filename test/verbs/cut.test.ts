import { expect, it } from 'vitest';
import { connectedPair, region } from '../support/verbs-pair.ts';
it.each([1,2,3,4,5,6])("cut %i", async () => {
    await using pair = await connectedPair();
    const local = await region(pair.left.domain, 1 << 20, 9);
    const remote = await region(pair.right.domain, 1 << 20);
    const write = { opcode: 'RDMA_WRITE', ...local.range(), remoteAddr: remote.addr, rkey: remote.rkey } as const;
    pair.left.queuePair.postSend(Array(200).fill(write));
    const t0 = performance.now();
    console.log(pair.left.queuePair.counters, pair.right.queuePair.counters);
    await pair.left.domain.close();
    console.log('left closed', performance.now() - t0, pair.left.queuePair.counters, pair.right.queuePair.counters);
    console.log(await pair.right.queuePair.closed);
    console.log('right closed', performance.now() - t0, pair.right.queuePair.counters);
});
