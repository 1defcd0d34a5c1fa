/** The end that listens, and clients that break its rules. */
import { afterEach, describe, expect, it } from 'vitest';
import { BenchClient } from '../../lib/bench/ends/client.ts';
import { BenchServer, type ServeOptions } from '../../lib/bench/ends/server.ts';
import { runBench } from '../../lib/bench/run.ts';
import { encodeRequest } from '../../lib/bench/wire/codec.ts';
import { decodeWelcome, encodeHello, VERSION } from '../../lib/bench/wire/hello.ts';
import type { Request } from '../../lib/bench/wire/messages.ts';
import type { MigrationError } from '../../lib/errors.ts';
import { parseRdmaUri } from '../../lib/protocol/uri.ts';
import { type Domain, type MemoryRegion, openDomain, type QueuePair } from '../../lib/verbs/index.ts';

const ends: AsyncDisposable[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end[Symbol.asyncDispose]();
});

interface Served {
  readonly server: BenchServer;
  /** Why the next client has left; undefined: in good order. */
  left(): Promise<MigrationError | undefined>;
}

async function serve(options: ServeOptions = {}): Promise<Served> {
  const gone: (MigrationError | undefined)[] = [];
  let wake = (): void => {};
  const server = await BenchServer.listen(
    'rdma:127.0.0.1:0',
    { provider: 'iwarp', ...options },
    {
      left: (_peer, error) => {
        gone.push(error);
        wake();
      },
    },
  );
  ends.push(server);
  const left = async (): Promise<MigrationError | undefined> => {
    while (gone.length === 0)
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    return gone.shift();
  };
  return { server, left };
}

/** A client that says what it likes. */
class Rude {
  readonly queuePair: QueuePair;
  readonly #domain: Domain;
  readonly #memory: MemoryRegion;

  private constructor(domain: Domain, queuePair: QueuePair, memory: MemoryRegion) {
    this.#domain = domain;
    this.queuePair = queuePair;
    this.#memory = memory;
  }

  static async connect(uri: string, hello: Uint8Array): Promise<{ rude: Rude; reply: Uint8Array }> {
    const domain = await openDomain({ provider: 'iwarp' });
    ends.push(domain);
    const memory = await domain.registerMemory(new SharedArrayBuffer(16_384));
    const queuePair = domain.createQueuePair();
    for (let room = 0; room < 4; room++) queuePair.postRecv([memory.range(8192, 2048)]);
    const reply = await queuePair.connect(parseRdmaUri(uri), { privateData: hello });
    return { rude: new Rude(domain, queuePair, memory), reply };
  }

  say(bytes: Uint8Array): void {
    this.#memory.memory.set(bytes, 0);
    this.queuePair.postSend([{ opcode: 'SEND', ...this.#memory.range(0, bytes.length) }]);
  }

  close(): Promise<void> {
    return this.#domain.close();
  }
}

const control = encodeHello({ version: VERSION, kind: 'control', index: 0, token: 0n });
const point = {
  kind: 'throughput',
  operation: 'write',
  messageBytes: 4096,
  depth: 4,
  queuePairs: 1,
  crc: false,
} as const;

/** A whole benchmark of one small point. */
async function measures(uri: string): Promise<number> {
  const { result, error } = await runBench({
    ...{ uri, provider: 'iwarp', points: [point], rounds: 1, local: true },
    length: { bytes: 65_536 },
  });
  if (error) throw error;
  return result?.points[0]?.rounds ?? 0;
}

describe('the end that listens', () => {
  it.each<[string, Request | Uint8Array]>([
    ['begin before open', { type: 'begin', mostMs: 10 }],
    ['finish before begin', { type: 'finish' }],
    ['close before open', { type: 'close' }],
    ['an unknown request', Buffer.of(0, 99)],
    ['an answer', Buffer.of(0, 131)],
    ['nothing at all', Buffer.alloc(0)],
    ['half a request', Buffer.of(0)],
  ])('drops who sends %s, and serves the next one', async (_name, message) => {
    const { server, left } = await serve();
    const { rude } = await Rude.connect(server.uri, control);
    rude.say(message instanceof Uint8Array ? message : encodeRequest(message));
    expect(await left()).toMatchObject({ code: 'PROTOCOL_ERROR' });
    await rude.queuePair.closed;
    expect(await measures(server.uri)).toBe(1);
  });

  it('drops who sends more than it waits for the answer of', async () => {
    const { server, left } = await serve();
    const { rude } = await Rude.connect(server.uri, control);
    for (let times = 0; times < 32 && rude.queuePair.state === 'RTS'; times++) {
      rude.say(Buffer.alloc(2048, 1));
    }
    expect((await left())?.code).toBeDefined();
    expect(await measures(server.uri)).toBe(1);
  });

  it('lets no data queue pair in that has not its token, or more than it was told', async () => {
    const { server } = await serve();
    const client = await BenchClient.connect(server.uri, { provider: 'iwarp' });
    ends.push(client);
    const place = { addr: 0n, length: 4096, rkey: 1 };
    await client.ask({ type: 'open', ...point, mode: 'throughput', place }, 'opened');
    for (const token of [0n, 1n, (1n << 64n) - 1n]) {
      const hello = encodeHello({ version: VERSION, kind: 'data', index: 0, token });
      await expect(Rude.connect(server.uri, hello)).rejects.toMatchObject({ code: 'REJECTED' });
    }
    await client.ask({ type: 'close' }, 'closed');
  });

  it('says that it is busy, and serves again when that client has left', async () => {
    const { server, left } = await serve();
    const first = await BenchClient.connect(server.uri, { provider: 'iwarp' });
    await expect(measures(server.uri)).rejects.toMatchObject({
      code: 'REJECTED',
      message: expect.stringContaining('serves another client'),
    });
    await first.close();
    expect(await left()).toBeUndefined();
    expect(await measures(server.uri)).toBe(1);
  });

  it('tells a client of another version which one it speaks', async () => {
    const { server } = await serve();
    const hello = encodeHello({ version: VERSION + 1, kind: 'control', index: 0, token: 0n });
    const { rude, reply } = await Rude.connect(server.uri, hello);
    expect(decodeWelcome(reply)).toEqual({ version: VERSION, status: 'version', token: 0n });
    await rude.close();
  });

  it('rejects who is no benchmark', async () => {
    const { server } = await serve();
    await expect(Rude.connect(server.uri, Buffer.from('QEMU'))).rejects.toMatchObject({ code: 'REJECTED' });
  });

  it('ends a client that has died in the middle, and serves the next one', async () => {
    const { server, left } = await serve();
    const { rude } = await Rude.connect(server.uri, control);
    const place = { addr: 0n, length: 4096, rkey: 1 };
    rude.say(encodeRequest({ type: 'open', ...point, mode: 'throughput', place }));
    await rude.close();
    await left();
    expect(await measures(server.uri)).toBe(1);
  });

  it('ends at once when it is told to, a client or not', async () => {
    const controller = new AbortController();
    const { server } = await serve({ signal: controller.signal });
    const serving = server.serve();
    const client = await BenchClient.connect(server.uri, { provider: 'iwarp' });
    ends.push(client);
    controller.abort();
    await expect(serving).rejects.toMatchObject({ code: 'CANCELLED' });
  });

  it('with once ends when the first client has left', async () => {
    const { server } = await serve({ once: true });
    const serving = server.serve();
    expect(await measures(server.uri)).toBe(1);
    await serving;
    await expect(measures(server.uri)).rejects.toMatchObject({ code: 'CONNECTION_REFUSED' });
  });
});
