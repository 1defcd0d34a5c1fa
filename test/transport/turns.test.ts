/** The account that the commit compares: what the peer may have got is in it. */
import { expect, it } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import { SentDigest } from '../../lib/protocol/commit.ts';
import { type ControlMessage, encodeControl } from '../../lib/protocol/control.ts';
import type { Connection } from '../../lib/transport/connection.ts';
import { SourceTurns } from '../../lib/transport/turns.ts';

const ALIVE: ControlMessage = { type: 'ALIVE' };

/** Takes a message for sending, and does not get rid of it in time. */
const slow = {
  phase: 'ram',
  waiting: { type: 'READY' },
  receive: () => Promise.resolve({ message: { type: 'READY' }, bytes: new Uint8Array() }),
  send: async (message: ControlMessage, _: unknown, posted?: (bytes: Uint8Array) => void) => {
    posted?.(encodeControl(message));
    throw new MigrationError('TIMEOUT', 'ram', 'the network took too long');
  },
} as unknown as Connection;

it('an ALIVE that is still on its way when its time is over counts', async () => {
  const account = new SentDigest();
  const turns = new SourceTurns(slow, { timeoutMs: 1 }, account);
  await turns.alive(0);
  const expected = new SentDigest();
  expected.add(encodeControl(ALIVE), ALIVE);
  expect(account.commit(0n)).toEqual(expected.commit(0n));
});
