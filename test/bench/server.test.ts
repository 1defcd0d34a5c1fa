/** The end that listens, and clients that break its rules. */
import { setTimeout as pause } from 'node:timers/promises';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { BenchClient } from '../../lib/bench/ends/client.ts';
import { BenchServer, type ServeOptions } from '../../lib/bench/ends/server.ts';
import { Buffers } from '../../lib/bench/measure/buffers.ts';
import { ramToSpare } from '../../lib/bench/measure/machine.ts';
import { runBench } from '../../lib/bench/run.ts';
import { encodeRequest } from '../../lib/bench/wire/codec.ts';
import { decodeWelcome, encodeHello, VERSION } from '../../lib/bench/wire/hello.ts';
import type { Request } from '../../lib/bench/wire/messages.ts';
import { MigrationError } from '../../lib/errors.ts';
import { parseRdmaUri } from '../../lib/protocol/uri.ts';
import { type Domain, type MemoryRegion, openDomain, type QueuePair } from '../../lib/verbs/index.ts';

const ends: AsyncDisposable[] = [];
afterEach(async () => {
  vi.useRealTimers();
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
  #answers = 0;

  private constructor(domain: Domain, queuePair: QueuePair, memory: MemoryRegion) {
    this.#domain = domain;
    this.queuePair = queuePair;
    this.#memory = memory;
    queuePair.onCompletions((batch) => {
      for (let index = 0; index < batch.length; index++) {
        if (!batch.isSuccess(index) || batch.opcode(index) !== 'RECV') continue;
        this.#answers++;
        if (queuePair.state === 'RTS') queuePair.postRecv([memory.range(8192, 2048)]);
      }
    });
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

  /** Waits for the answer, whatever it is. */
  async asks(request: Request): Promise<void> {
    const before = this.#answers;
    this.say(encodeRequest(request));
    await vi.waitFor(() => expect(this.#answers).toBeGreaterThan(before), { timeout: 10_000, interval: 1 });
  }

  close(): Promise<void> {
    return this.#domain.close();
  }
}

/** For any small point. */
const ROOMY = { addr: 0n, length: 1 << 20, rkey: 1 };
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
    await rude.asks({ type: 'migrate', ramBytes: 1 << 20, crc: false, channels: 0, mostMs: 3_600_000 });
    // the end of a migration that does not come: each of the next is right, and none can be answered
    rude.say(encodeRequest({ type: 'finish' }));
    for (let times = 0; times < 32 && rude.queuePair.state === 'RTS'; times++) {
      await pause(10);
      if (rude.queuePair.state === 'RTS') rude.say(encodeRequest({ type: 'who' }));
    }
    await rude.queuePair.closed;
    await left();
    expect(await measures(server.uri)).toBe(1);
  });

  it('lets no data queue pair in that has not its token, is one too many, comes twice or too late', async () => {
    const { server } = await serve();
    const { rude, reply } = await Rude.connect(server.uri, control);
    const { token } = decodeWelcome(reply);
    const data = (index: number, as = token): Promise<{ rude: Rude }> =>
      Rude.connect(server.uri, encodeHello({ version: VERSION, kind: 'data', index, token: as }));
    const rejected = { code: 'REJECTED' };
    await expect(data(0)).rejects.toMatchObject(rejected); // nothing is open
    await rude.asks({ type: 'open', ...point, queuePairs: 2, mode: 'throughput', place: ROOMY });
    for (const wrong of [0n, 1n, (1n << 64n) - 1n, token ^ 1n])
      await expect(data(0, wrong)).rejects.toMatchObject(rejected);
    await expect(data(2)).rejects.toMatchObject(rejected);
    await data(0);
    await expect(data(0)).rejects.toMatchObject(rejected);
    await rude.asks({ type: 'begin', mostMs: 10_000 });
    await expect(data(1)).rejects.toMatchObject(rejected);
  });

  it('rejects a data queue pair that it cannot make', async () => {
    const { server } = await serve();
    const { rude, reply } = await Rude.connect(server.uri, control);
    const { token } = decodeWelcome(reply);
    await rude.asks({ type: 'open', ...point, mode: 'throughput', place: ROOMY });
    const make = vi.spyOn(Buffers.prototype, 'rooms').mockImplementation(() => {
      throw new MigrationError('RESOURCE_LIMIT', 'verbs', 'no memory for another one');
    });
    try {
      const hello = encodeHello({ version: VERSION, kind: 'data', index: 0, token });
      await expect(Rude.connect(server.uri, hello)).rejects.toMatchObject({ code: 'REJECTED' });
    } finally {
      make.mockRestore();
    }
  });

  it('uses the same memory for one measurement after the other', async () => {
    const { server } = await serve();
    const { rude } = await Rude.connect(server.uri, control);
    const asked = { ...point, messageBytes: 4 << 20, queuePairs: 8, mode: 'throughput' } as const;
    const before = process.memoryUsage().rss;
    for (let times = 0; times < 16; times++) {
      await rude.asks({ type: 'open', ...asked, place: { ...ROOMY, length: 1 << 30 } });
      await rude.asks({ type: 'close' });
    }
    expect(process.memoryUsage().rss - before).toBeLessThan(512 << 20); // 128 MiB each
  });

  it('refuses a VM that it has not the memory for, and says how much it has', async () => {
    const { server } = await serve({ maxRam: 64 << 20 });
    const client = await BenchClient.connect(server.uri, { provider: 'iwarp' });
    ends.push(client);
    const migrate = (ramBytes: number) =>
      client.ask({ type: 'migrate', ramBytes, crc: false, channels: 0, mostMs: 1000 }, 'listening');
    await expect(migrate(65 << 20)).rejects.toMatchObject({
      code: 'PEER_ERROR',
      message: expect.stringMatching(/68157440 bytes .* 67108864 bytes .*--max-ram.*OUT_OF_MEMORY/),
    });
    expect((await migrate(64 << 20)).port).toBeGreaterThan(0);
  });

  it('refuses more than is available when it was not told how much', async () => {
    const { server } = await serve();
    const client = await BenchClient.connect(server.uri, { provider: 'iwarp' });
    ends.push(client);
    const asked = { type: 'migrate', ramBytes: 2 ** 44, crc: false, channels: 0, mostMs: 1000 } as const;
    await expect(client.ask(asked, 'listening')).rejects.toMatchObject({
      message: expect.stringContaining('OUT_OF_MEMORY'),
    });
    expect(ramToSpare(() => 'MemAvailable:    2097152 kB\n')).toBe(3 << 29);
    expect(ramToSpare(() => 'MemAvailable:      65536 kB\n')).toBe(0);
  });

  it('drops who asks nothing at first for ten seconds, and with once waits for the next one', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
    const { server, left } = await serve({ once: true });
    const serving = server.serve();
    const { rude } = await Rude.connect(server.uri, control);
    // its time begins when the server has heard of it, a moment after the client has
    let seconds = 0;
    for (; rude.queuePair.state === 'RTS' && seconds < 60; seconds++) {
      vi.advanceTimersByTime(1_000);
      await pause(20);
    }
    expect(await left()).toMatchObject({ code: 'TIMEOUT' });
    expect(seconds).toBeGreaterThanOrEqual(10);
    vi.useRealTimers();
    expect(await measures(server.uri)).toBe(1);
    await serving;
  });

  it('keeps a client that makes its VM for longer than a client may be silent', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] });
    const { server } = await serve();
    const client = await BenchClient.connect(server.uri, { provider: 'iwarp' });
    ends.push(client);
    await client.who();
    for (let seconds = 0; seconds < 600; seconds += 20) {
      vi.advanceTimersByTime(20_000);
      await client.stayPresent();
    }
    await expect(client.who()).resolves.toMatchObject({ cpus: expect.any(Number) });
  });

  it('tells a client in the middle of a round that it leaves', async () => {
    for (const kind of ['throughput', 'latency'] as const) {
      const { server } = await serve();
      const running = runBench({
        ...{ uri: server.uri, provider: 'iwarp', points: [{ ...point, kind }], rounds: 1, local: true },
        length: { seconds: 30 },
      });
      await pause(500);
      await server.close();
      const { error } = await running;
      expect(error?.code).toMatch(/^CONNECTION_(CLOSED|LOST)$/);
    }
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
    rude.say(encodeRequest({ type: 'open', ...point, mode: 'throughput', place: ROOMY }));
    await rude.close();
    await left();
    expect(await measures(server.uri)).toBe(1);
  });

  it.each([true, false])('ends at once when it is told to (a client is there: %s)', async (isThere) => {
    const controller = new AbortController();
    const { server } = await serve({ signal: controller.signal });
    const serving = server.serve();
    if (isThere) ends.push(await BenchClient.connect(server.uri, { provider: 'iwarp' }));
    const began = performance.now();
    controller.abort();
    await expect(serving).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(performance.now() - began).toBeLessThan(5_000);
  });

  it('with once ends when the first client has left', async () => {
    const { server } = await serve({ once: true });
    const serving = server.serve();
    expect(await measures(server.uri)).toBe(1);
    await serving;
    await expect(measures(server.uri)).rejects.toMatchObject({ code: 'CONNECTION_REFUSED' });
  });
});
