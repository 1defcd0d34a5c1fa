/** What a wait that times out says: where to look is where the answer was due from. */
import { randomUUID } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { MigrationDestination, MigrationError, MigrationSource, type SourceVm } from '../../lib/index.ts';
import { commitTarget } from '../../lib/migration/destination/commit-target.ts';
import { deviceStateOf } from '../../lib/migration/device-state.ts';
import { GuestControl } from '../../lib/migration/live/guest-control.ts';
import { waitFor } from '../../lib/qmp/wait.ts';
import type { Arrival, Guest } from '../../lib/ram/vm.ts';
import { MemoryTarget, MemoryVm } from '../support/memory-vm.ts';
import { PATIENCE_MS } from '../support/patience.ts';
import { privateData } from '../support/raw-control.ts';
import { RawListener } from '../support/raw-listener.ts';
import { receiving } from '../support/receiving.ts';
import { ScriptedSource } from '../support/scripted-source.ts';

const PEER = /peer is alive|network in between/;
const never = (): Promise<never> => new Promise(() => {});
const none = async (): Promise<void> => {};

async function failed(work: Promise<unknown>): Promise<MigrationError> {
  const error: unknown = await work.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  expect(error).toBeInstanceOf(MigrationError);
  return error as MigrationError;
}

function expectTimeout(error: MigrationError, waitingFor: string, says: RegExp): void {
  expect(error).toMatchObject({ code: 'TIMEOUT', details: { waitingFor } });
  expect(error.message).toMatch(says);
  if (waitingFor !== 'peer') expect(error.message).not.toMatch(PEER);
}

const guest: Guest = {
  tracker: { kind: 'hash', start: never, collect: never, stop: none, [Symbol.asyncDispose]: none },
  pause: never,
  resume: none,
  throttle: never,
};

describe('a wait that times out for', () => {
  it.each<[string, (guest: GuestControl) => Promise<unknown>]>([
    ['the VMM to pause its guest', (guest) => guest.pause()],
    ['the VMM to throttle it', (guest) => guest.throttle(20)],
    ['the VMM’s dirty tracker', (guest) => guest.track()],
  ])('%s blames the VMM', async (_what, call) => {
    const error = await failed(call(new GuestControl(guest, { timeoutMs: 20 })));
    expectTimeout(error, 'vmm', /The VMM has not answered.*check that it is not stopped/);
  });

  it.each([
    { of: 'a running guest', running: guest, waitingFor: 'vmm', says: /The VMM has not answered/ },
    {
      of: 'a VM at rest',
      running: undefined,
      waitingFor: 'disk',
      says: /vm\.after\(\)\. .*check the disk/,
    },
  ])('device state of $of blames the $waitingFor', async ({ running, waitingFor, says }) => {
    await using plain = await MemoryVm.create({ ram: 4096n });
    const after = (): AsyncIterable<Uint8Array> => ({ [Symbol.asyncIterator]: () => ({ next: never }) });
    const vm: SourceVm = Object.assign(Object.create(plain), { after, guest: running });
    const error = await failed(deviceStateOf(vm, { timeoutMs: 20 }).next());
    expectTimeout(error, waitingFor, says);
  });

  it('the target’s look at the description blames the VMM, and tells the source', async () => {
    await using plain = await MemoryVm.create({ ram: 4096n });
    const vm: SourceVm = Object.assign(Object.create(plain), { description: Buffer.from('a VM') });
    await using memory = new MemoryTarget();
    const target = Object.assign(memory, { describe: never });
    // The same at both ends: the destination's comes first.
    const options = { responseTimeoutMs: PATIENCE_MS };
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, options);
    const received = failed(destination.receive());
    const sent = failed(new MigrationSource(vm, destination.uri, options).migrate());
    expectTimeout(await received, 'vmm', /look at the description of the VM\. The VMM/);
    expect(await sent).toMatchObject({ code: 'PEER_ERROR', details: { peerCode: 'TIMEOUT' } });
  });

  it('the target’s commit blames the target', async () => {
    const arrival: Arrival = {
      migrationId: randomUUID(),
      peer: 'peer:1',
      provider: 'iwarp',
      completeness: 'commit',
    };
    const aborted = new AbortController();
    class Slow extends MemoryTarget {
      override commit(): Promise<void> {
        return new Promise((_, reject) =>
          aborted.signal.addEventListener('abort', () => reject(new Error('aborted'))),
        );
      }
      override async abort(): Promise<void> {
        aborted.abort();
      }
    }
    await using target = new Slow();
    const error = await failed(commitTarget(target, arrival, 20, undefined));
    expectTimeout(error, 'target', /the target to make the VM durable\. .*check the disk of the target/);
  });

  it('QMP blames QEMU', async () => {
    const subject = { phase: 'setup', what: 'stop', timeoutMs: 20, signal: undefined } as const;
    expectTimeout(await failed(waitFor(subject, () => {})), 'qmp', /Is QEMU stopped/);
  });

  it('a source that falls silent blames the peer', async () => {
    await using received = await receiving({ responseTimeoutMs: PATIENCE_MS });
    await using source = await ScriptedSource.connect(received.port, {});
    await source.reach('ram');
    expectTimeout(await received.fails('TIMEOUT', 'ram'), 'peer', PEER);
  });

  it('a destination that never says READY blames the peer', async () => {
    await using vm = await MemoryVm.create({ ram: 1n << 20n });
    await using listener = await RawListener.open();
    void listener.accept().then(async (peer) => peer.reply(await peer.awaitRequest(), privateData()));
    const error = await failed(
      new MigrationSource(vm, listener.uri, { responseTimeoutMs: PATIENCE_MS }).migrate(),
    );
    expectTimeout(error, 'peer', PEER);
  });
});
