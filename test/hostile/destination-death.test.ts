/** A destination whose source fails, dies or falls silent, at each moment of a migration. */
import { describe, expect, it } from 'vitest';
import type { Phase } from '../../lib/index.ts';
import { PATIENCE_MS } from '../support/patience.ts';
import { controlMessage } from '../support/raw-control.ts';
import { untaggedSegment } from '../support/raw-frames.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource, type Stage } from '../support/scripted-source.ts';

const STAGES: readonly { stage: Stage; phase: Phase }[] = [
  { stage: 'start-hook', phase: 'setup' },
  { stage: 'announced', phase: 'setup' },
  { stage: 'setup-done', phase: 'setup' },
  { stage: 'ram', phase: 'ram' },
  { stage: 'registered', phase: 'ram' },
  { stage: 'written', phase: 'ram' },
  { stage: 'ram-done', phase: 'ram' },
  { stage: 'device', phase: 'device-state' },
  { stage: 'stream-done', phase: 'device-state' },
];

const CASES = STAGES.flatMap((at) => [
  { ...at, pinAll: false },
  { ...at, pinAll: true },
]);

describe.each(CASES)('at $stage, pin-all $pinAll, a destination', ({ stage, phase, pinAll }) => {
  const options = { commit: true, pinAll };

  it('takes an ERROR for what it is', async () => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, options);
    await source.reach(stage);
    source.peer.send(controlMessage('ERROR'));
    await received.fails('PEER_ERROR', phase);
  });

  it('notices a reset', async () => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, options);
    await source.reach(stage);
    source.peer.kill();
    await received.fails('CONNECTION_LOST', phase);
  });

  it('notices a disconnect in good order, which is none', async () => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, options);
    await source.reach(stage);
    source.peer.finish();
    await received.fails('CONNECTION_LOST', phase);
  });

  it('notices an end inside a message', async () => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, options);
    await source.reach(stage);
    const header = { opcode: 3, queue: 0, msn: 1, last: false };
    source.peer.raw(Buffer.concat([Buffer.of(0x40, 0x00), untaggedSegment(header, Buffer.alloc(100))]));
    source.peer.finish();
    await received.fails(['CONNECTION_LOST', 'WIRE_ERROR'], phase);
  });

  it('can be closed', async () => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, options);
    await source.reach(stage);
    await received.destination.close();
    await received.fails('CANCELLED', phase);
    expect(await source.farewell()).toEqual(['ERROR', 'end']);
  });
});

describe.concurrent('a destination does not wait for a silent source for ever, and says so', () => {
  it.each(CASES)('at $stage, pin-all $pinAll', async ({ stage, phase, pinAll }) => {
    const limits = { responseTimeoutMs: PATIENCE_MS, commitTimeoutMs: PATIENCE_MS };
    await using received = await receiving(limits);
    await using source = await ScriptedSource.connect(received.port, { commit: true, pinAll });
    await source.reach(stage);
    let ticks = 0;
    const ticking = setInterval(() => ticks++, 10);
    await received.fails('TIMEOUT', phase);
    clearInterval(ticking);
    expect(ticks).toBeGreaterThan(0);
    expect(await source.farewell()).toEqual(['ERROR', 'end']);
  });
});

it('a source that dies while its bytes arrive leaves nothing behind', async () => {
  await using received = await receiving();
  await using source = await ScriptedSource.connect(received.port, { pinAll: true });
  await source.reach('ram');
  const { rkey, address } = source.block(0);
  for (let round = 0; round < 20; round++) source.peer.write(rkey, address, Buffer.alloc(1 << 20, round + 1));
  setTimeout(() => source.peer.kill(), 5);
  await received.fails('CONNECTION_LOST', 'ram');
});

it('a destination that nobody comes to can be closed, and cancelled', async () => {
  await using received = await receiving();
  await received.destination.close();
  await received.fails('CANCELLED', 'listen');
});
