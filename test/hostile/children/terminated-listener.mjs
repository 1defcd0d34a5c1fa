/** A worker thread is terminated while its listen() is under way. Says whether the port is free afterwards. */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { native } from '../../../dist/native/index.js';

const OPTIONS = { crc: false, connectTimeoutMs: 5_000, stallTimeoutMs: 5_000 };

const listen = (port) =>
  native.listen(
    'iwarp',
    { host: '127.0.0.1', port },
    OPTIONS,
    () => {},
    () => {},
    () => {},
  );

async function freePort() {
  const listener = await listen(0);
  await listener.close();
  return listener.port;
}

if (isMainThread) {
  const port = await freePort();
  const worker = new Worker(new URL(import.meta.url), { workerData: port });
  await new Promise((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  await worker.terminate();
  const listener = await listen(port);
  await listener.close();
  console.log('free');
} else {
  const listening = listen(workerData);
  parentPort.postMessage('listening');
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0); // never gets to see what became of it
  await listening;
}
