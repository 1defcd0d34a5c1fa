/**
 * Writes memory into another process, as fast as it goes, and compares: RDMA WRITE over `rdma-migrate/verbs`.
 *
 *     node main.js                                   both sides in this process
 *     node main.js --listen 0.0.0.0:7471             who is written to
 *     node main.js --connect HOST:7471 --mib 1024    who writes
 */
import { createHash, randomFillSync } from 'node:crypto';
import {
  type ConnectionRequest,
  type Domain,
  type Endpoint,
  type Listener,
  type MemoryRegion,
  type MigrationError,
  openDomain,
  type QueuePair,
  WorkRequestBatch,
} from 'rdma-migrate/verbs';
import type { Arguments } from '../verbs-ends/arguments.ts';
import { runExample } from '../verbs-ends/run.ts';

const MIB = 1 << 20;

const USAGE = {
  text: `Usage: main.js [options]
Writes memory into the other side, prints the rate, and has the other side compare a digest.

  --mib N               memory that is written; default 256. Who is written to allows at most its own --mib
  --rounds N            times that it is written; default 8
  --chunk-kib N         of one WRITE; default 1024
  --window N            WRITEs under way; default 32`,
  numbers: { mib: 256, rounds: 8, 'chunk-kib': 1_024, window: 32 },
};

/** What the two sides tell each other, in the machine's byte order: an address (u64), bytes (u64) and a key (u32). */
interface Place {
  readonly addr: bigint;
  readonly bytes: number;
  readonly rkey: number;
}
const PLACE_BYTES = 20;
const DIGEST_BYTES = 32;

function encode({ addr, bytes, rkey }: Place): Buffer {
  const data = Buffer.alloc(PLACE_BYTES);
  data.writeBigUInt64LE(addr, 0);
  data.writeBigUInt64LE(BigInt(bytes), 8);
  data.writeUInt32LE(rkey, 16);
  return data;
}

/** Whoever is at the other end may have sent anything. InfiniBand and RoCE fill private data up with zeros. */
function decode(data: Uint8Array): Place | undefined {
  if (data.length < PLACE_BYTES) return undefined;
  const buffer = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  const bytes = buffer.readBigUInt64LE(8);
  if (bytes === 0n || bytes > BigInt(Number.MAX_SAFE_INTEGER)) return undefined;
  return { addr: buffer.readBigUInt64LE(0), bytes: Number(bytes), rkey: buffer.readUInt32LE(16) };
}

const digestOf = (memory: Uint8Array): Buffer => createHash('sha256').update(memory).digest();

/** The next completion of one kind; others are dropped. */
async function next(queuePair: QueuePair, opcode: 'RECV' | 'SEND', signal?: AbortSignal): Promise<void> {
  for await (const batch of queuePair.completions(signal && { signal }))
    for (const done of batch) if (done.opcode === opcode && done.status === 'SUCCESS') return;
  throw new Error('the peer has left');
}

/** All of one region into the other, `window` WRITEs at a time. */
async function writeAll(
  queuePair: QueuePair,
  chunks: WorkRequestBatch,
  window: number,
  signal: AbortSignal,
): Promise<void> {
  let posted = 0;
  let done = 0;
  const fill = (): void => {
    const room = Math.min(window - (posted - done), chunks.length - posted);
    try {
      posted += queuePair.postSend(chunks, posted, room);
    } catch (error) {
      // The loop below throws why it has ended.
      if ((error as MigrationError).code !== 'CONNECTION_CLOSED') throw error;
    }
  };
  fill();
  for await (const batch of queuePair.completions({ signal })) {
    for (let at = 0; at < batch.length; at += 1) if (batch.isSuccess(at)) done += 1;
    if (done === chunks.length) return;
    fill();
  }
  throw new Error('the peer has left');
}

function chunksOf(local: MemoryRegion, remote: Place, chunk: number): WorkRequestBatch {
  const batch = new WorkRequestBatch(Math.ceil(local.length / chunk));
  for (let offset = 0; offset < local.length; offset += chunk) {
    batch.push({
      opcode: 'RDMA_WRITE',
      wrId: offset,
      ...local.range(offset, Math.min(chunk, local.length - offset)),
      remoteAddr: remote.addr + BigInt(offset),
      rkey: remote.rkey,
    });
  }
  return batch;
}

async function measure(endpoint: Endpoint, given: Arguments, signal: AbortSignal): Promise<void> {
  const { mib, rounds, 'chunk-kib': kib, window } = given.numbers as Record<string, number>;
  const bytes = (mib as number) * MIB;
  await using domain = await openDomain({ provider: given.provider, peer: endpoint });
  const queuePair = domain.createQueuePair({
    crc: given.crc,
    maxSendWr: Math.min(65_536, (window as number) + 1),
  });
  const memory = await domain.registerMemory(new SharedArrayBuffer(bytes));
  for (let offset = 0; offset < bytes; offset += MIB) randomFillSync(memory.memory, offset, MIB);
  const message = await domain.registerMemory(Buffer.alloc(DIGEST_BYTES + 1));
  queuePair.postRecv([message.range(DIGEST_BYTES, 1)]);
  const reply = await queuePair.connect(endpoint, {
    privateData: encode({ addr: 0n, bytes, rkey: 0 }),
    signal,
  });
  const remote = decode(reply);
  if (remote?.bytes !== bytes) throw new Error('the peer gives no such memory');

  const chunks = chunksOf(memory, remote, (kib as number) * 1024);
  const began = performance.now();
  for (let round = 0; round < (rounds as number); round += 1)
    await writeAll(queuePair, chunks, window as number, signal);
  const seconds = (performance.now() - began) / 1_000;

  // A message is delivered after the WRITEs before it have been placed.
  message.memory.set(digestOf(memory.memory));
  queuePair.postSend([{ opcode: 'SEND', ...message.range(0, DIGEST_BYTES), signaled: false }]);
  await next(queuePair, 'RECV', signal);
  const identical = message.memory[DIGEST_BYTES] === 1;
  await queuePair.disconnect();
  report({ bytes: bytes * (rounds as number), seconds, identical }, given, domain, queuePair.info.detail);
}

interface Written {
  readonly bytes: number;
  readonly seconds: number;
  readonly identical: boolean;
}

function report(
  { bytes, seconds, identical }: Written,
  given: Arguments,
  domain: Domain,
  detail: string,
): void {
  const rate = bytes / seconds / 2 ** 30;
  const result = {
    provider: domain.provider.name,
    detail,
    bytes,
    seconds,
    'gib-per-second': rate,
    identical,
  };
  if (given.json) console.log(JSON.stringify(result));
  else
    console.log(
      `${result.provider} (${detail}): ${bytes / MIB} MiB written in ${seconds.toFixed(2)} s, ${rate.toFixed(2)} GiB/s, ` +
        (identical ? 'identical' : 'NOT IDENTICAL'),
    );
  if (!identical) process.exitCode = 1;
}

/** Gives a peer memory to write into, and compares when it says that it has written. */
async function take(domain: Domain, request: ConnectionRequest, most: number): Promise<void> {
  const wanted = decode(request.privateData);
  if (wanted === undefined || wanted.bytes > most) return request.reject(Buffer.from('too much'));
  await using queuePair = domain.createQueuePair();
  await using memory = await domain.registerMemory(new SharedArrayBuffer(wanted.bytes), {
    localWrite: true,
    remoteWrite: true,
  });
  await using message = await domain.registerMemory(Buffer.alloc(DIGEST_BYTES + 1));
  queuePair.postRecv([message.range(0, DIGEST_BYTES)]);
  await domain.bind(request); // a device tells the key from here on
  const { addr, rkey } = memory;
  await queuePair.accept(request, { privateData: encode({ addr, bytes: wanted.bytes, rkey }) });
  await next(queuePair, 'RECV');
  const equal = digestOf(memory.memory).equals(message.memory.subarray(0, DIGEST_BYTES));
  message.memory[DIGEST_BYTES] = equal ? 1 : 0;
  queuePair.postSend([{ opcode: 'SEND', ...message.range(DIGEST_BYTES, 1) }]);
  await queuePair.closed;
}

async function serve(listener: Listener, given: Arguments): Promise<void> {
  await using domain = await openDomain({ provider: listener.provider.name });
  for await (const request of listener) {
    take(domain, request, (given.numbers.mib as number) * MIB).catch((error: Error) =>
      console.error(`${request.peerAddress}: ${error.message}`),
    );
  }
}

await runExample({ usage: USAGE, serve, measure }, import.meta.url);
