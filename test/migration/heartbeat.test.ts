/** A source that has nothing to say is heard from all the same, and one that is dead or stopped is not. */
import { expect, it } from 'vitest';
import { MigrationDestination, MigrationSource } from '../../lib/index.ts';
import { SentDigest } from '../../lib/protocol/commit.ts';
import type { ControlMessage } from '../../lib/protocol/control.ts';
import type { Connection } from '../../lib/transport/connection.ts';
import { SourceTurns } from '../../lib/transport/turns.ts';
import { LiveGuest } from '../support/live-guest.ts';
import { MemoryTarget } from '../support/memory-vm.ts';
import { controlMessage } from '../support/raw-control.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource, STAGES } from '../support/scripted-source.ts';

it('a guest that takes longer to pause than the destination waits for a message is moved', async () => {
  const limits = { provider: 'iwarp', commit: 'require' } as const;
  await using vm = await LiveGuest.create({
    pause: () => new Promise((resolve) => setTimeout(resolve, 5_500)),
  });
  await using target = new MemoryTarget();
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
    ...limits,
    responseTimeoutMs: 4_000,
  });
  const received = destination.receive();
  const source = new MigrationSource(vm, destination.uri, { ...limits, responseTimeoutMs: 7_000 });
  const sent = source.migrate();
  await expect(Promise.all([sent, received])).resolves.toMatchObject([
    { outcome: 'committed' },
    { outcome: 'committed' },
  ]);
});

const SAID = [
  ['ALIVE', 0x102, Buffer.alloc(0)],
  ['PROGRESS', 0x103, Buffer.alloc(48)],
] as const;
const AFTER_CONNECTED = STAGES.filter((stage) => stage !== 'connected');

it.each(SAID.flatMap(([name, type, data]) => AFTER_CONNECTED.map((stage) => ({ name, type, data, stage }))))(
  'a source that has not agreed on $name must not say it, at $stage',
  async ({ name, type, data, stage }) => {
    await using received = await receiving();
    await using source = await ScriptedSource.connect(received.port, { commit: true });
    await source.reach(stage);
    source.peer.send(controlMessage(type, data));
    const { message } = await received.fails('PROTOCOL_ERROR', ['setup', 'ram', 'device-state']);
    expect(message).toContain(name);
  },
);

/** A connection whose destination says READY when it is told to. */
class Scripted {
  readonly sent: string[] = [];
  readonly inbox: ControlMessage[] = [];
  #wake = (): void => {};
  phase = 'ram';
  get waiting(): ControlMessage | undefined {
    return this.inbox[0];
  }
  says(type: 'READY' | 'UNREGISTER_FINISHED'): void {
    this.inbox.push({ type });
    this.#wake();
  }
  async receive(): Promise<{ message: ControlMessage }> {
    while (this.inbox.length === 0) await new Promise<void>((resolve) => (this.#wake = resolve));
    return { message: this.inbox.shift() as ControlMessage };
  }
  async send({ type }: ControlMessage): Promise<Uint8Array> {
    await new Promise((resolve) => setTimeout(resolve, 5));
    this.sent.push(type);
    return new Uint8Array(16);
  }
}

function scripted(): { peer: Scripted; turns: SourceTurns } {
  const peer = new Scripted();
  const turns = new SourceTurns(peer as unknown as Connection, { timeoutMs: 1_000 }, new SentDigest());
  return { peer, turns };
}

it('ALIVE is said in turn only', async () => {
  const { peer, turns } = scripted();
  await turns.alive(0);
  expect(peer.sent).toEqual([]);
  peer.says('READY');
  await turns.alive(0);
  await turns.alive(0);
  expect(peer.sent).toEqual(['ALIVE']);
  // The next message waits for a turn of its own.
  const sending = turns.send({ type: 'REGISTER_FINISHED' });
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect(peer.sent).toEqual(['ALIVE']);
  peer.says('READY');
  await sending;
  expect(peer.sent).toEqual(['ALIVE', 'REGISTER_FINISHED']);
});

it('ALIVE is not said while a message or its answer is under way, nor soon after one', async () => {
  const { peer, turns } = scripted();
  peer.says('READY');
  const requesting = turns.request({ type: 'UNREGISTER_REQUEST', commands: [] }, 'UNREGISTER_FINISHED');
  await turns.alive(0);
  peer.says('UNREGISTER_FINISHED');
  await turns.alive(0);
  await requesting;
  peer.says('READY');
  await turns.alive(60_000);
  expect(peer.sent).toEqual(['UNREGISTER_REQUEST']);
});

it('a message that comes together with an ALIVE waits for the next turn', async () => {
  const { peer, turns } = scripted();
  peer.says('READY');
  void turns.alive(0);
  const sending = turns.send({ type: 'REGISTER_FINISHED' });
  await new Promise((resolve) => setTimeout(resolve, 20));
  peer.says('READY');
  await sending;
  expect(peer.sent).toEqual(['ALIVE', 'REGISTER_FINISHED']);
});
