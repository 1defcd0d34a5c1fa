/** A worker thread is terminated while many peers wait for it to look at their requests. Says how many are still waiting afterwards. */
import { connect } from 'node:net';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { native } from '../../../dist/native/index.js';

/** More than a listener takes before it has an answer (64); the others wait in the kernel. */
const PEERS = 150;
const REQUEST = Buffer.from('MPA ID Req Frame\0\x01\0\0', 'latin1'); // RFC 5044 section 7.1.1: revision 1, no private data
const OPTIONS = { crc: false, connectTimeoutMs: 30_000, stallTimeoutMs: 30_000 };
const PATIENCE_MS = 10_000;

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

let waiting = 0;
function peer(port) {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => {
      waiting += 1;
      socket.on('close', () => {
        waiting -= 1;
      });
      socket.write(REQUEST, resolve);
    });
    socket.on('error', reject);
    socket.resume();
  });
}

if (isMainThread) {
  const worker = new Worker(new URL(import.meta.url));
  const port = await new Promise((resolve) => worker.once('message', resolve));
  for (let i = 0; i < PEERS; i += 1) await peer(port);
  await pause(500); // until the last request has arrived
  const before = waiting;
  await worker.terminate();
  for (const end = Date.now() + PATIENCE_MS; waiting > 0 && Date.now() < end; ) await pause(20);
  console.log(`${before}, then ${waiting}`);
  process.exit(0);
} else {
  const nothing = () => {};
  const at = { host: '127.0.0.1', port: 0 };
  const listener = await native.listen('iwarp', at, OPTIONS, nothing, nothing, nothing);
  parentPort.postMessage(listener.port);
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); // never looks at a request
}
