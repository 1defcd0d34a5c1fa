/** What a source says that its control messages have cost. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest';
import { addPass, NO_PASSES } from '../../lib/migration/source/control-costs.ts';
import { SentDigest } from '../../lib/protocol/commit.ts';
import { type ControlMessage, encodeControl } from '../../lib/protocol/control.ts';
import type { Connection } from '../../lib/transport/connection.ts';
import { SourceTurns } from '../../lib/transport/turns.ts';

beforeEach(() => vi.useFakeTimers({ toFake: ['performance', 'setTimeout'] }));
afterEach(() => vi.useRealTimers());

/** Says these, each after so many milliseconds. */
function peer(...says: [ControlMessage, number][]): SourceTurns {
  const connection = {
    receive: async () => {
      const [message, milliseconds] = says.shift() as [ControlMessage, number];
      await new Promise((resolve) => setTimeout(resolve, milliseconds));
      return { message, bytes: new Uint8Array() };
    },
    send: async (message: ControlMessage, _: unknown, posted?: (bytes: Uint8Array) => void) =>
      posted?.(encodeControl(message)),
  } as unknown as Connection;
  return new SourceTurns(connection, { timeoutMs: 60_000 }, new SentDigest());
}

const SPAN = { key: 0n, blockIndex: 0, chunks: 0n };
const READY: ControlMessage = { type: 'READY' };
const KEYS: ControlMessage = { type: 'REGISTER_RESULT', results: [{ rkey: 1, hostAddress: 0n }] };

async function done<T>(work: Promise<T>): Promise<T> {
  await vi.runAllTimersAsync();
  return work;
}

it('counts messages, and tells waits for a READY from waits for keys', async () => {
  const turns = peer([READY, 30], [KEYS, 70], [READY, 5]);
  await done(turns.request({ type: 'REGISTER_REQUEST', commands: [SPAN] }, 'REGISTER_RESULT'));
  await done(turns.send({ type: 'REGISTER_FINISHED' }));
  expect(turns.costs).toEqual({ messages: 2, readyMs: 35, keyMs: 70 });
});

it('a READY that is there costs nothing, and other answers are no keys', async () => {
  const turns = peer([READY, 0], [{ type: 'UNREGISTER_FINISHED' }, 50]);
  await done(turns.ready());
  await done(turns.request({ type: 'UNREGISTER_REQUEST', commands: [SPAN] }, 'UNREGISTER_FINISHED'));
  expect(turns.costs).toEqual({ messages: 1, readyMs: 0, keyMs: 0 });
});

it('passes add up, each with what came between its ends', () => {
  const one = addPass(
    NO_PASSES,
    { messages: 1, readyMs: 10, keyMs: 0 },
    { messages: 3, readyMs: 15, keyMs: 2 },
    4,
  );
  const two = addPass(
    one,
    { messages: 5, readyMs: 100, keyMs: 2 },
    { messages: 6, readyMs: 101, keyMs: 5 },
    6,
  );
  expect(two).toEqual({ 'ready-wait': 6, 'key-wait': 5, idle: 10 });
});
