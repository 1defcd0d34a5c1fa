/**
 * Queue pairs of `rdma-migrate/verbs` in a worker thread that is terminated in the middle, again and again. Says `survived` at the end, and what
 * of descriptors and threads was left.
 */
import { readdirSync } from 'node:fs';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { listen, openDomain, WorkRequestBatch } from '../../../dist/verbs/index.js';

const ROUNDS = 16;
const QUEUE_PAIRS = 8;
const BYTES = 1 << 20;
const ALL = { localWrite: true, remoteWrite: true, remoteRead: true };

/** Traffic without end on several queue pairs, and one that is connecting, in one thread. */
async function work() {
  const left = await openDomain({ provider: 'iwarp' });
  const right = await openDomain({ provider: 'iwarp' });
  const local = await left.registerMemory(new ArrayBuffer(BYTES), ALL);
  const remote = await right.registerMemory(new ArrayBuffer(BYTES), ALL);
  const listener = await listen({ host: '127.0.0.1', port: 0 }, { provider: 'iwarp' }, (request) => {
    if (request.privateData.length > 0) return; // never answered
    const queuePair = right.createQueuePair();
    queuePair.postRecv([remote.range()]);
    queuePair.accept(request);
  });
  const endpoint = { host: '127.0.0.1', port: listener.port };
  const batch = new WorkRequestBatch(64);
  for (let index = 0; index < 64; index += 1)
    batch.pushWrite(index, local.addr, BYTES, local.lkey, remote.addr, remote.rkey);
  for (let index = 0; index < QUEUE_PAIRS; index += 1) {
    const queuePair = left.createQueuePair();
    await queuePair.connect(endpoint);
    queuePair.onCompletions((done) => queuePair.postSend(batch, 0, done.length));
    queuePair.postSend(batch);
  }
  left.createQueuePair().connect(endpoint, { privateData: Buffer.from('wait') });
  parentPort.postMessage('busy');
  // a registration and an end that are under way
  for (;;) {
    const region = await left.registerMemory(new ArrayBuffer(4096));
    await region.close();
    await new Promise(setImmediate);
  }
}

async function terminateInTheMiddle() {
  const worker = new Worker(new URL(import.meta.url));
  await new Promise((resolve, reject) => {
    worker.on('message', resolve);
    worker.on('error', reject);
  });
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 60));
  await worker.terminate();
}

const count = (folder) => readdirSync(`/proc/self/${folder}`).length;

if (isMainThread) {
  for (let round = 0; round < 4; round += 1) await terminateInTheMiddle();
  const before = [count('fd'), count('task')];
  for (let round = 0; round < ROUNDS; round += 1) await terminateInTheMiddle();
  await new Promise((resolve) => setTimeout(resolve, 200));
  const more = [count('fd') - before[0], count('task') - before[1]].map((grown) => Math.max(0, grown));
  console.log(
    `survived: ${more.every((grown) => grown <= 2) ? 'nothing left' : `${more} more descriptors, threads`}`,
  );
} else {
  await work();
}
