/**
 * One end of thousands of queue pairs: `server`, or `client PORT COUNT`. Each queue pair carries a WRITE and a SEND both ways, and what was
 * written is compared. The parent is told of each stage, and says when the next one begins.
 */
import { type Domain, listen, type MemoryRegion, openDomain, type QueuePair } from 'rdma-migrate/verbs';

/** Bytes that one queue pair writes; each has a place of its own. */
const PLACE = 8;
/** Handshakes at one time. */
const WINDOW = 64;

const [role, port, wanted] = process.argv.slice(2) as [string, string, string];
const OPTIONS = { maxSendWr: 4, maxRecvWr: 2 };
const contentOf = (index: number): bigint => BigInt(index) ^ 0x5555_5555_5555_5555n;

/** Of all queue pairs of this end: what is written from, and what the peer writes into. */
class Memory {
  readonly out: MemoryRegion;
  readonly inbox: MemoryRegion;
  readonly #written: BigUint64Array;

  private constructor(out: MemoryRegion, inbox: MemoryRegion, written: BigUint64Array) {
    this.out = out;
    this.inbox = inbox;
    this.#written = written;
  }

  static async of(domain: Domain, count: number): Promise<Memory> {
    const [out, inbox] = [new SharedArrayBuffer(count * PLACE), new SharedArrayBuffer(count * PLACE)];
    const content = new BigUint64Array(out);
    for (const index of content.keys()) content[index] = contentOf(index);
    return new Memory(
      await domain.registerMemory(out),
      await domain.registerMemory(inbox, { localWrite: true, remoteWrite: true }),
      new BigUint64Array(inbox),
    );
  }

  /** Where the peer writes to, for private data. */
  describe(index: number): Buffer {
    const place = Buffer.alloc(16);
    place.writeBigUInt64LE(this.inbox.addr, 0);
    place.writeUInt32LE(this.inbox.rkey, 8);
    place.writeUInt32LE(index, 12);
    return place;
  }

  /** Whether the peer has written what it should at each place. */
  isWhole(): boolean {
    return this.#written.every((value, index) => value === contentOf(index));
  }
}

function write(queuePair: QueuePair, memory: Memory, place: Buffer, index: number): void {
  const at = index * PLACE;
  const posted = queuePair.postSend([
    {
      opcode: 'RDMA_WRITE',
      wrId: 1,
      ...memory.out.range(at, PLACE),
      remoteAddr: place.readBigUInt64LE(0) + BigInt(at),
      rkey: place.readUInt32LE(8),
      signaled: false,
    },
    { opcode: 'SEND', wrId: 2, ...memory.out.range(0, 0) },
  ]);
  if (posted !== 2) throw new Error(`${posted} of 2 requests were posted`);
}

/** Resolves when the peer's message, and with it its WRITE, has come. */
function message(queuePair: QueuePair): Promise<void> {
  return new Promise((resolve, reject) => {
    queuePair.onCompletions((batch) => {
      for (const { opcode, status } of batch) {
        if (status !== 'SUCCESS') reject(new Error(`a ${opcode} failed: ${status}`));
        else if (opcode === 'RECV') resolve();
      }
    });
  });
}

const hear = (): Promise<unknown> => new Promise((resolve) => process.once('message', resolve));
const tell = (stage: string, more: object = {}): void => void process.send?.({ stage, ...more });

async function server(): Promise<void> {
  const { count } = (await hear()) as { count: number };
  await using domain = await openDomain({ provider: 'iwarp' });
  const memory = await Memory.of(domain, count);
  const open: QueuePair[] = [];
  const messages: Promise<void>[] = [];
  const here = { host: '127.0.0.1', port: 0 };
  await using listener = await listen(here, { provider: 'iwarp' }, async (request) => {
    const place = Buffer.from(request.privateData);
    const index = place.readUInt32LE(12);
    const queuePair = domain.createQueuePair(OPTIONS);
    queuePair.postRecv([{ wrId: 0, ...memory.inbox.range(0, 0) }]);
    const came = message(queuePair);
    open.push(queuePair);
    messages.push(came);
    await queuePair.accept(request, { privateData: memory.describe(index), maySendAtOnce: true });
    await came;
    write(queuePair, memory, place, index);
  });
  tell('listening', { port: listener.port });
  await hear();
  await Promise.all(messages);
  tell('carried', { count: open.length, whole: memory.isWhole() });
  await Promise.all(open.map(({ closed }) => closed));
  tell('closed');
  await hear();
}

async function client(): Promise<void> {
  const count = Number(wanted);
  await using domain = await openDomain({ provider: 'iwarp' });
  const memory = await Memory.of(domain, count);
  const peers: { queuePair: QueuePair; place: Buffer; came: Promise<void> }[] = [];
  const there = { host: '127.0.0.1', port: Number(port) };
  let next = 0;
  const dial = async (): Promise<void> => {
    while (next < count) {
      const index = next++;
      const queuePair = domain.createQueuePair(OPTIONS);
      queuePair.postRecv([{ wrId: 0, ...memory.inbox.range(0, 0) }]);
      const came = message(queuePair);
      const place = await queuePair.connect(there, { privateData: memory.describe(index) });
      peers[index] = { queuePair, place: Buffer.from(place), came };
    }
  };
  tell('ready');
  await hear();
  await Promise.all(Array.from({ length: WINDOW }, dial));
  tell('connected');
  await hear();
  for (const [index, { queuePair, place }] of peers.entries()) write(queuePair, memory, place, index);
  await Promise.all(peers.map(({ came }) => came));
  tell('carried', { count: peers.length, whole: memory.isWhole() });
  await hear();
  for (const { queuePair } of peers) queuePair.disconnect();
  await Promise.all(peers.map(({ queuePair }) => queuePair.closed));
  tell('closed');
  await hear();
}

await (role === 'server' ? server() : client());
process.disconnect();
