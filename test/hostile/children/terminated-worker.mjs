/** Both ends of a migration in a worker thread that is terminated in the middle, again and again. Says `survived` at the end. */
import { closeSync, openSync, writeSync } from 'node:fs';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { MigrationDestination, MigrationSource, mapMemfd } from '../../../dist/index.js';

const ROUNDS = 12;
const BYTES = 64n << 20n;
/** Half a second for all of RAM. */
const BANDWIDTH = 128n << 20n;

async function block() {
  return { name: 'ram', length: BYTES, mapping: await mapMemfd({ name: 'ram', length: BYTES }) };
}

/** Not a byte of it is zero. */
function fill({ mapping }) {
  const memory = openSync('/proc/self/mem', 'r+');
  const piece = Buffer.alloc(1 << 20, 7);
  for (let offset = 0n; offset < BYTES; offset += BigInt(piece.length))
    writeSync(memory, piece, 0, piece.length, Number(mapping.address + offset));
  closeSync(memory);
}

async function migrate() {
  const source = await block();
  fill(source);
  const machine = Buffer.from('worker');
  const before = Buffer.concat([Buffer.from('QEVM\0\0\0\x03\x07\0\0\0\x06'), machine]);
  const vm = {
    layout: { machine: 'worker', pageSize: 4096, blocks: [source] },
    blocks: [source],
    ramSection: { sectionId: 1, instanceId: 0 },
    before,
    async *after() {
      const description = '{"page_size":4096,"devices":[]}';
      yield Buffer.concat([Buffer.from([0, 6, 0, 0, 0, description.length]), Buffer.from(description)]);
    },
  };
  const target = {
    allocate: async () => [await block()],
    append: async () => {},
    commit: async () => {},
    abort: async () => {},
  };
  const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, { provider: 'iwarp' });
  const received = destination.receive();
  const sender = new MigrationSource(vm, destination.uri, { provider: 'iwarp', maxBandwidth: BANDWIDTH });
  sender.on('phase', (phase) => parentPort.postMessage(phase));
  await Promise.all([sender.migrate(), received]);
}

async function terminateInTheMiddle() {
  const worker = new Worker(new URL(import.meta.url));
  await new Promise((resolve, reject) => {
    worker.on('message', (phase) => phase === 'ram' && resolve());
    worker.on('error', reject);
  });
  await new Promise((resolve) => setTimeout(resolve, Math.random() * 200));
  await worker.terminate();
}

if (isMainThread) {
  for (let round = 0; round < ROUNDS; round += 1) await terminateInTheMiddle();
  console.log('survived');
} else {
  await migrate();
}
