/**
 * What calls of `rdma-migrate/verbs` cost: a post, a request in a batch of 1, 32 and 256, a completion, in processor time; and a small WRITE from end to
 * end over loopback, in time. Medians; the first round warms up.
 *
 * Posts are measured on a queue pair that is not connected: there they wait in its queue, and no thread of the software RNIC works beside the
 * one that is measured. Its completions are those of the end, all there at once.
 */
import {
  CompletionBatch,
  type Domain,
  listen,
  type MemoryRegion,
  openDomain,
  type SendRequest,
  WorkRequestBatch,
} from 'rdma-migrate/verbs';
import { benchCommand, runBench, wholeNumber } from '../support/arguments.ts';
import { machineNow, tell } from '../support/report.ts';
import { median } from '../support/statistics.ts';
import { Status } from '../support/status.ts';
import type { Cell, Column } from '../support/table.ts';

const QUEUE = 65_536;
const SIZES = [1, 32, 256] as const;
const LOOPBACK_REQUESTS = 50_000;
const LOOPBACK_BYTES = 8;
/** WRITEs under way at the most. */
const DEPTH = 1024;

type Row = Readonly<Record<string, number>>;

const now = (): number => performance.now() * 1e6;

/** Processor time, nanoseconds, for each of `count` things that `body` does: other programs' work does not count. */
function each(count: number, body: () => void): number {
  const began = process.cpuUsage();
  body();
  const { user, system } = process.cpuUsage(began);
  return ((user + system) * 1_000) / count;
}

function sends(memory: MemoryRegion, count: number): WorkRequestBatch {
  const batch = new WorkRequestBatch(count);
  for (let index = 1; index <= count; index += 1) batch.pushSend(index, memory.addr, 64, memory.lkey);
  return batch;
}

/** What the `wrId`s of a full queue come to, posted by batches of 1 to `size`. */
const sumOf = (size: number): number => (QUEUE * (size + 1)) / 2;

function requireAll(sum: number, expected: number): void {
  if (sum !== expected) throw new Error(`not every request has completed once: ${sum}, not ${expected}`);
}

/** One fresh queue pair: filled with sends by batches of `size`, then ended, and its completions taken by batches of `size`. */
async function postAndPoll(domain: Domain, memory: MemoryRegion, size: number): Promise<Row> {
  const queuePair = domain.createQueuePair({ maxSendWr: QUEUE, maxRecvWr: QUEUE });
  const calls = QUEUE / size;
  const batch = sends(memory, size);
  const post = each(calls, () => {
    for (let call = 0; call < calls; call += 1) queuePair.postSend(batch);
  });
  const recvs = new WorkRequestBatch(size);
  for (let index = 1; index <= size; index += 1) recvs.pushRecv(index, memory.addr, 64, memory.lkey);
  const recv = each(calls, () => {
    for (let call = 0; call < calls; call += 1) queuePair.postRecv(recvs);
  });
  await queuePair.close();
  const done = new CompletionBatch(size);
  let sum = 0;
  const poll = each(2 * calls, () => {
    while (queuePair.pollCompletions(done) > 0)
      for (let at = 0; at < done.length; at += 1) sum += done.wrIdNumber(at);
  });
  requireAll(sum, 2 * sumOf(size));
  return { 'post-send-call': post, 'post-recv-call': recv, 'poll-call': poll };
}

async function objects(domain: Domain, memory: MemoryRegion, size: number): Promise<Row> {
  const queuePair = domain.createQueuePair({ maxSendWr: QUEUE });
  const requests: SendRequest[] = Array.from({ length: size }, (_, at) => ({
    opcode: 'SEND',
    wrId: at + 1,
    ...memory.range(0, 64),
  }));
  const calls = QUEUE / size;
  const post = each(calls, () => {
    for (let call = 0; call < calls; call += 1) queuePair.postSend(requests);
  });
  await queuePair.close();
  const done = new CompletionBatch(size);
  let sum = 0n;
  const poll = each(calls, () => {
    while (queuePair.pollCompletions(done) > 0) for (const { wrId } of done) sum += wrId;
  });
  requireAll(Number(sum), sumOf(size));
  return { 'post-objects-call': post, 'poll-objects-call': poll };
}

function fill(memory: MemoryRegion, size: number): Row {
  const batch = new WorkRequestBatch(size);
  const rounds = QUEUE / size;
  const put = each(QUEUE, () => {
    for (let round = 0; round < rounds; round += 1) {
      batch.clear();
      for (let at = 0; at < size; at += 1)
        batch.pushWrite(at, memory.addr, 64, memory.lkey, memory.addr, memory.rkey);
    }
  });
  return { 'fill-request': put };
}

/** WRITEs of a few bytes between two queue pairs of this process, batches of `size` posted whenever there is room. */
async function loopback(domain: Domain, memory: MemoryRegion, size: number): Promise<Row> {
  await using listener = await listen({ host: '127.0.0.1', port: 0 }, { provider: 'iwarp' });
  await using left = domain.createQueuePair({ maxSendWr: DEPTH });
  await using right = domain.createQueuePair();
  const connecting = left.connect({ host: '127.0.0.1', port: listener.port });
  for await (const request of listener) {
    await right.accept(request);
    break;
  }
  await connecting;
  const batch = new WorkRequestBatch(size);
  const { addr, lkey, rkey } = memory;
  for (let at = 0; at < size; at += 1) batch.pushWrite(at, addr, LOOPBACK_BYTES, lkey, addr + 64n, rkey);
  const began = now();
  let posted = left.postSend(batch);
  let done = 0;
  for await (const completions of left.completions({ batch: new CompletionBatch(DEPTH) })) {
    done += completions.length;
    if (done >= LOOPBACK_REQUESTS) break;
    while (posted - done <= DEPTH - size) posted += left.postSend(batch);
  }
  return { 'loopback-write': (now() - began) / done };
}

/** Medians of `rounds`, after one round that warms up; of that one if it is the only one. */
async function measure(domain: Domain, memory: MemoryRegion, size: number, rounds: number): Promise<Row> {
  const rows: Row[] = [];
  for (let round = 0; round <= rounds; round += 1) {
    const parts = [
      await postAndPoll(domain, memory, size),
      await objects(domain, memory, size),
      fill(memory, size),
      await loopback(domain, memory, size),
    ];
    if (round > 0 || rounds === 0) rows.push(Object.assign({}, ...parts) as Row);
  }
  const names = Object.keys(rows[0] as Row);
  return Object.fromEntries(names.map((name) => [name, median(rows.map((row) => row[name] as number))]));
}

const COLUMNS: readonly Column[] = [
  { head: 'requests in a batch', digits: 0 },
  { head: 'what' },
  { head: 'each', unit: 'ns', digits: 0 },
  { head: 'a request', unit: 'ns', digits: 0 },
];

const command = benchCommand(
  'bench:verbs',
  'What a post, a request and a completion of rdma-migrate/verbs cost.',
)
  .option(
    '--rounds <n>',
    'how often each is measured, after one round that warms up; 0: that one alone',
    wholeNumber(0, 1000),
    9,
  )
  .option('--json <file>', 'write what was measured to a file');

await runBench<{ rounds: number; json?: string }>(command, async ({ rounds, json }) => {
  const machine = machineNow();
  await using domain = await openDomain({ provider: 'iwarp' });
  const access = { localWrite: true, remoteWrite: true };
  const memory = await domain.registerMemory(new SharedArrayBuffer(4096), access);
  const status = new Status(SIZES.length);
  const rows: Cell[][] = [];
  for (const size of SIZES) {
    status.step(`batches of ${size}`);
    for (const [name, ns] of Object.entries(await measure(domain, memory, size, rounds)))
      rows.push([size, name, ns, name.endsWith('-call') ? ns / size : null]);
  }
  status.end();
  const title = 'Calls of rdma-migrate/verbs: processor time, and the time of a small WRITE over loopback';
  await tell('verbs', { tables: [{ id: 'verbs', title, columns: COLUMNS, rows }] }, { json, machine });
});
