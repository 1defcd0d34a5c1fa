/** The registrations of a source against a destination and a writer that take their time. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { PinWindow, spanBytesFor } from '../../lib/migration/pins/pin-window.ts';
import type { PinnedBlock, ReadySpans, SpanKeys } from '../../lib/migration/pins/source-pins.ts';
import { registerWhole, SpanPins, WholeBlocks } from '../../lib/migration/pins/source-pins.ts';
import type { NativePageDigests } from '../../lib/native/dirty.ts';
import type { NativeMapping, NativeRuns } from '../../lib/native/memory.ts';
import type { NativeKeys } from '../../lib/native/transport.ts';
import type { ControlMessage, RegisterCommand } from '../../lib/protocol/control.ts';
import { CHUNK_BYTES, packed, runs, type Span } from '../../lib/ram/spans.ts';

const PAGE = 4096n;
const LENGTH = 48n * CHUNK_BYTES + PAGE;
const ADDRESS = 0x7000_0000n;
const OFFSET = 0x1000_0000n;

const block: PinnedBlock = {
  index: 0,
  block: { name: 'pc.ram', length: LENGTH, mapping: {} as NativeMapping },
  remote: { hostAddress: ADDRESS, offset: OFFSET, length: LENGTH, rkey: 0 },
};

/** Keeps the books of both ends, and throws when a rule is broken. */
class World {
  /** By local key. */
  readonly local = new Map<number, Span>();
  readonly remote = new Map<number, { first: bigint; more: bigint }>();
  readonly messages: ControlMessage[] = [];
  readonly #writing = new Map<number, number>();
  /** Calls that registered something here. */
  calls = 0;
  readonly #extended: boolean;
  #keys = 0;
  #inTurn = false;
  /** Everything that was written is at the peer; from the next message on that is not known any more. */
  #placed = false;
  peak = 0n;

  constructor(extended: boolean) {
    this.#extended = extended;
  }

  readonly connection = {
    rails: {
      barrier: async (): Promise<void> => {
        await tick();
        this.#placed = true;
      },
    },
    register: async (_: NativeMapping, spans: NativeRuns): Promise<NativeKeys> => {
      await tick();
      this.calls += 1;
      return Uint32Array.from(
        [...runs(spans)].flatMap((span) => {
          const lkey = ++this.#keys;
          this.local.set(lkey, span);
          return [lkey, lkey];
        }),
      );
    },
    deregister: async (lkeys: Uint32Array): Promise<void> => {
      for (const lkey of lkeys)
        if ((this.#writing.get(lkey) ?? 0) > 0) throw new Error('deregistered while it is written');
      await tick();
      for (const lkey of lkeys) if (!this.local.delete(lkey)) throw new Error('deregistered twice');
    },
  };

  readonly turns = {
    request: async (message: ControlMessage): Promise<never> => {
      if (this.#inTurn) throw new Error('two messages at a time');
      this.#inTurn = true;
      if (message.type === 'UNREGISTER_REQUEST' && !this.#placed)
        throw new Error('a key is given up while a WRITE may be on its way');
      if (message.type !== 'UNREGISTER_REQUEST') this.#placed = false;
      this.messages.push(message);
      await tick();
      const answer = this.#answer(message);
      await tick();
      this.#inTurn = false;
      return answer as never;
    },
  };

  #answer(message: ControlMessage): ControlMessage {
    if (message.type === 'UNREGISTER_REQUEST') {
      this.#oneAtATime(message.commands);
      for (const { key, chunks } of message.commands) this.#unregister(key, chunks);
      return { type: 'UNREGISTER_FINISHED' };
    }
    if (message.type !== 'REGISTER_REQUEST') throw new Error(message.type);
    this.#oneAtATime(message.commands);
    const results = message.commands.map((command) => ({
      rkey: this.#register(command),
      hostAddress: ADDRESS,
    }));
    const bytes = [...this.remote.values()].reduce((sum, { more }) => sum + (more + 1n) * CHUNK_BYTES, 0n);
    if (bytes > this.peak) this.peak = bytes;
    return { type: 'REGISTER_RESULT', results };
  }

  #oneAtATime(commands: readonly RegisterCommand[]): void {
    if (!this.#extended && commands.length !== 1) throw new Error('a QEMU takes one command a message');
  }

  #register({ key, chunks }: RegisterCommand): number {
    const first = (key - OFFSET) / CHUNK_BYTES;
    for (const other of this.remote.values()) {
      if (first <= other.first + other.more && other.first <= first + chunks)
        throw new Error('registered twice');
    }
    const rkey = 1000 + ++this.#keys;
    this.remote.set(rkey, { first, more: chunks });
    return rkey;
  }

  /** Exactly what was registered, by its first chunk. */
  #unregister(key: bigint, chunks: bigint): void {
    for (const [rkey, { first, more }] of this.remote) {
      if (first === key && more === chunks) return void this.remote.delete(rkey);
    }
    throw new Error(`unregister of ${key}, ${chunks}, which is not registered`);
  }

  /** A WRITE job: its keys must be good until it ends. */
  async write(ready: ReadySpans, ticks: number): Promise<void> {
    const parts = partsOf(ready);
    for (const { lkey } of parts) {
      if (!this.local.has(lkey)) throw new Error('no local key');
      this.#writing.set(lkey, (this.#writing.get(lkey) ?? 0) + 1);
    }
    for (let i = 0; i < ticks; i++) {
      for (const part of parts) this.#check(part);
      await tick();
    }
    for (const part of parts) this.#check(part);
    for (const { lkey } of parts) this.#writing.set(lkey, (this.#writing.get(lkey) ?? 0) - 1);
  }

  #check({ offset, length, lkey, rkey }: KeyedSpan): void {
    const here = this.local.get(lkey);
    if (!here || offset < here.offset || offset + length > here.offset + here.length)
      throw new Error('outside of the local region');
    const there = this.remote.get(rkey);
    if (!there) throw new Error('a WRITE with a key that is gone');
    const end = (there.first + there.more + 1n) * CHUNK_BYTES;
    if (offset < there.first * CHUNK_BYTES || offset + length > end)
      throw new Error('outside of the remote region');
  }
}

type KeyedSpan = Span & { lkey: number; rkey: number };

const partsOf = ({ spans, keys }: ReadySpans): KeyedSpan[] =>
  [...runs(spans)].map((span, at) => ({
    ...span,
    lkey: keys[2 * at] as number,
    rkey: keys[2 * at + 1] as number,
  }));

const tick = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

const passOf = fc
  .uniqueArray(fc.nat({ max: Number(LENGTH / PAGE) }), { minLength: 2, maxLength: 30 })
  .map((edges) => {
    const sorted = [...edges].sort((a, b) => a - b).map(BigInt);
    const found: Span[] = [];
    for (let i = 0; i + 1 < sorted.length; i += 2) {
      const [from, to] = [sorted[i] as bigint, sorted[i + 1] as bigint];
      found.push({ offset: from * PAGE, length: (to - from) * PAGE });
    }
    return found;
  });

function pinsIn(world: World, budget: bigint | undefined, extended: boolean) {
  const spanBytes = spanBytesFor(budget, CHUNK_BYTES, 16n * CHUNK_BYTES, extended ? 'batched' : 'single');
  const window = new PinWindow<SpanKeys>([LENGTH], { budget, spanBytes });
  const { signal } = new AbortController();
  const { connection, turns } = world;
  const pins = new SpanPins({ connection, turns, window, extended, sparse: extended, signal } as never);
  return { pins, window };
}

describe('SpanPins', () => {
  it('keeps to the budget at both ends in all passes, and every page is written with keys that are good', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 2, max: 20 }),
        fc.array(passOf, { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        fc.array(fc.nat({ max: 4 }), { minLength: 1 }),
        async (chunks, passes, extended, ticks) => {
          const budget = BigInt(chunks) * CHUNK_BYTES;
          const world = new World(extended);
          const { pins, window } = pinsIn(world, budget, extended);
          // A writer takes one job after the other.
          let queue = Promise.resolve();
          let jobs = 0;
          for (const data of passes) {
            const covered: Span[] = [];
            for await (const ready of pins.ready(block, packed(data), false)) {
              covered.push(...runs(ready.spans));
              const delay = ticks[jobs++ % ticks.length] as number;
              queue = queue.then(() => world.write(ready, delay));
              queue.catch(() => {});
              ready.writtenBy(queue);
              expect(window.bytes).toBeLessThanOrEqual(budget);
            }
            await queue;
            for (const { offset, length } of data) expect(uncovered(offset, length, covered)).toBe(0n);
          }
          expect(world.peak).toBeLessThanOrEqual(budget);
          expect(world.local.size).toBe(world.remote.size);
          await pins.close();
          expect(world.local.size).toBe(0);
        },
      ),
      { numRuns: 60 },
    );
  });

  it('uses what is registered still in the next pass, without a message', async () => {
    const world = new World(true);
    const { pins } = pinsIn(world, 8n * CHUNK_BYTES, true);
    const data = [{ offset: 5n * CHUNK_BYTES, length: 3n * CHUNK_BYTES }];
    for (let pass = 0; pass < 3; pass++) {
      for await (const ready of pins.ready(block, packed(data), false))
        ready.writtenBy(world.write(ready, 1));
    }
    expect(world.messages.map(({ type }) => type)).toEqual(['REGISTER_REQUEST']);
  });

  it('asks one of ours for many scattered spans in one message, and marks those that are written throughout', async () => {
    const world = new World(true);
    const { pins } = pinsIn(world, undefined, true);
    const data = [0n, 4n, 8n, 12n].map((chunk) => ({ offset: chunk * CHUNK_BYTES, length: CHUNK_BYTES }));
    for await (const ready of pins.ready(block, packed(data), true)) ready.writtenBy(world.write(ready, 0));
    const [message, ...rest] = world.messages;
    expect(rest).toEqual([]);
    expect(message).toMatchObject({
      commands: [{ padding: 1 }, { padding: 1 }, { padding: 1 }, { padding: 1 }],
    });
    expect(world.calls).toBe(1);
  });

  it('registers thousands of scattered spans by one message and one call at each end, written by one job', async () => {
    const count = 4096;
    const length = 2n * BigInt(count + 100) * CHUNK_BYTES;
    const vast = { ...block, block: { ...block.block, length } };
    const window = new PinWindow<SpanKeys>([length], { budget: undefined, spanBytes: length });
    const world = new World(true);
    const { connection, turns } = world;
    const { signal } = new AbortController();
    const pins = new SpanPins({ connection, turns, window, extended: true, sparse: true, signal } as never);
    const every = Array.from({ length: count + 100 }, (_, i) => ({
      offset: 2n * BigInt(i) * CHUNK_BYTES,
      length: 16n * PAGE,
    }));
    const jobs: ReadySpans[] = [];
    const writing: Promise<void>[] = [];
    for await (const ready of pins.ready(vast, packed(every), true)) {
      const written = world.write(ready, 1);
      jobs.push(ready);
      writing.push(written);
      ready.writtenBy(written);
    }
    await Promise.all(writing);
    expect(jobs.map(({ spans }) => spans.length / 2)).toEqual([count, 100]);
    expect(world.messages.map(({ type }) => type)).toEqual(['REGISTER_REQUEST', 'REGISTER_REQUEST']);
    expect(world.calls).toBe(2);
    await pins.close();
    expect(world.local.size).toBe(0);
  });

  it('asks for more with each message where it may ask ahead, and one span is enough to begin with', async () => {
    const world = new World(true);
    const window = new PinWindow<SpanKeys>([LENGTH], { budget: undefined, spanBytes: CHUNK_BYTES });
    const { connection, turns } = world;
    const { signal } = new AbortController();
    const options = { connection, turns, window, extended: true, sparse: true, signal };
    const pins = new SpanPins({ ...options, aheadBytes: 8n * CHUNK_BYTES } as never);
    const covered: Span[] = [];
    for await (const ready of pins.ready(block, packed([{ offset: 0n, length: LENGTH }]), true)) {
      covered.push(...runs(ready.spans));
      ready.writtenBy(world.write(ready, 0));
    }
    const counts = world.messages.map((message) => 'commands' in message && message.commands.length);
    expect(counts).toEqual([1, 2, 4, 8, 8, 8, 8, 8, 2]);
    expect(uncovered(0n, LENGTH, covered)).toBe(0n);
    await pins.close();
  });

  it('registers whole blocks side by side, and fails when nothing is under way any more', async () => {
    let underWay = 0;
    let most = 0;
    const connection = {
      register: async (_: NativeMapping, [, length]: NativeRuns): Promise<NativeKeys> => {
        most = Math.max(most, ++underWay);
        await tick();
        if ((length as bigint) > PAGE) await tick();
        underWay -= 1;
        if (length === PAGE) throw new Error('no memory');
        return Uint32Array.of(Number(length), 0);
      },
    };
    const blocks = [PAGE, 2n * PAGE, 3n * PAGE].map((length, index) => {
      return { index, block: { ...block.block, length } };
    });
    await expect(registerWhole(connection, blocks)).rejects.toThrow('no memory');
    expect(underWay).toBe(0);
    expect(most).toBe(3);
    const lkeys = await registerWhole(connection, blocks.slice(1));
    expect([...lkeys]).toEqual([
      [1, Number(2n * PAGE)],
      [2, Number(3n * PAGE)],
    ]);
  });

  it('registers nothing here of a block that is sent from copies', async () => {
    const world = new World(true);
    const copied = { ...block, digests: {} as NativePageDigests };
    const { pins } = pinsIn(world, 4n * CHUNK_BYTES, true);
    const covered: Span[] = [];
    for await (const ready of pins.ready(copied, packed([{ offset: 0n, length: LENGTH }]), false)) {
      covered.push(...runs(ready.spans));
      expect(world.local.size).toBe(0);
      expect(partsOf(ready).every(({ rkey }) => world.remote.has(rkey))).toBe(true);
      ready.writtenBy(tick());
    }
    expect(uncovered(0n, LENGTH, covered)).toBe(0n);
    expect(world.peak).toBeLessThanOrEqual(4n * CHUNK_BYTES);
    await pins.close();
    const other = { ...block, index: 1 };
    const lkeys = await registerWhole(world.connection, [other]);
    const whole = new WholeBlocks(world.connection as never, lkeys, [copied, other]);
    expect(whole.peak).toBe(2n * LENGTH);
    await whole.close();
    expect(world.local.size).toBe(0);
  });

  it('marks no chunk of which only a part is written', async () => {
    const world = new World(true);
    const { pins } = pinsIn(world, undefined, true);
    const data = [
      { offset: 0n, length: 16n * PAGE },
      { offset: 4n * CHUNK_BYTES, length: 2n * CHUNK_BYTES },
      { offset: 8n * CHUNK_BYTES + PAGE, length: 2n * CHUNK_BYTES },
    ];
    for await (const ready of pins.ready(block, packed(data), true)) ready.writtenBy(world.write(ready, 0));
    const [message] = world.messages;
    if (message?.type !== 'REGISTER_REQUEST') throw new Error('a REGISTER_REQUEST');
    expect(message.commands.map(({ padding }) => padding)).toEqual([undefined, 1, undefined]);
  });

  it.each([
    ['too few results', { type: 'REGISTER_RESULT', results: [] }],
    ['another address', { type: 'REGISTER_RESULT', results: [{ rkey: 1, hostAddress: ADDRESS + PAGE }] }],
  ])('refuses %s', async (_, answer) => {
    const world = new World(true);
    const turns = { request: async () => answer };
    const window = new PinWindow<SpanKeys>([LENGTH], { budget: undefined, spanBytes: LENGTH });
    const { signal } = new AbortController();
    const options = { connection: world.connection, turns, window, extended: true, sparse: false, signal };
    const pins = new SpanPins(options as never);
    const first = pins.ready(block, packed([{ offset: 0n, length: PAGE }]), false).next();
    await expect(first).rejects.toMatchObject({ code: 'PROTOCOL_ERROR', phase: 'ram' });
  });

  it('that waits for room hears of a writer that failed, and of a cancel', async () => {
    for (const how of ['failed', 'cancelled'] as const) {
      const world = new World(true);
      const window = new PinWindow<SpanKeys>([LENGTH], { budget: 2n * CHUNK_BYTES, spanBytes: CHUNK_BYTES });
      const abort = new AbortController();
      const { connection, turns } = world;
      const options = { connection, turns, window, extended: true, sparse: false, signal: abort.signal };
      const pins = new SpanPins(options as never);
      let fail = (_: Error): void => {};
      const job = new Promise<void>((_, reject) => {
        fail = reject;
      });
      job.catch(() => {});
      const run = async (): Promise<void> => {
        for await (const ready of pins.ready(block, packed([{ offset: 0n, length: LENGTH }]), false))
          ready.writtenBy(job);
      };
      const running = run();
      setTimeout(() => (how === 'failed' ? fail(new Error('the wire')) : abort.abort()), 20);
      await expect(running).rejects.toThrow(how === 'failed' ? 'the wire' : 'cancelled');
    }
  });
});

function uncovered(offset: bigint, length: bigint, spans: readonly Span[]): bigint {
  let at = offset;
  const end = offset + length;
  for (const span of [...spans].sort((a, b) => Number(a.offset - b.offset))) {
    if (span.offset <= at && span.offset + span.length > at) at = span.offset + span.length;
  }
  return at >= end ? 0n : end - at;
}
