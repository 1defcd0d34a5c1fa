/** Callbacks of an embedder that throw, return nothing or reject: what is said of the VM stays true. */
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { type DestinationTarget, MigrationDestination, type MigrationSource } from '../../lib/index.ts';
import { Committing, codes, migrate, outcome } from '../support/endings.ts';
import { LiveGuest } from '../support/live-guest.ts';
import { MemoryTarget, MemoryVm } from '../support/memory-vm.ts';
import { ScriptedSource } from '../support/scripted-source.ts';

const MIB = 1n << 20n;
const boom = (): never => {
  throw new Error('boom');
};
/** What plain JavaScript may have instead of a promise. */
const nothing = (() => undefined) as unknown as () => Promise<void>;
const rejects = (): Promise<never> => Promise.reject(new Error('boom'));

const MISBEHAVIOURS = [
  ['throws', boom as () => Promise<never>],
  ['returns nothing', nothing],
  ['rejects', rejects],
] as const;

describe.each(MISBEHAVIOURS)("a target's abort that %s", (_, abort) => {
  it('leaves COMMIT_UNKNOWN what it is, at both ends, while the commit still runs', async () => {
    await using vm = await LiveGuest.create();
    await using target = new Committing(() => new Promise(() => {}));
    target.abort = abort;
    const ended = await migrate(vm, target, { destination: { commitTimeoutMs: 500 } });
    expect(codes(ended)).toEqual(['COMMIT_UNKNOWN', 'COMMIT_UNKNOWN']);
    expect([vm.calls, vm.isRunning]).toEqual([['pause'], false]);
  });

  it('does not take the place of the failure before it', async () => {
    await using vm = await LiveGuest.create();
    await using target = new Committing(async () => {});
    target.append = () => Promise.reject(Object.assign(new Error('no room'), { code: 'ENOSPC' }));
    target.abort = abort;
    expect(codes(await migrate(vm, target))).toEqual(['PEER_ERROR', 'DISK_FULL']);
    expect(vm.isRunning).toBe(true);
  });
});

describe("a target's commit", () => {
  it('that returns nothing has done its work', async () => {
    await using vm = await LiveGuest.create();
    await using target = new Committing(nothing);
    expect(codes(await migrate(vm, target))).toEqual(['committed', 'committed']);
    expect(vm.isRunning).toBe(false);
  });

  it.each(MISBEHAVIOURS.filter(([name]) => name !== 'returns nothing'))(
    'that %s fails the migration: the VM is the source’s',
    async (_, commit) => {
      await using vm = await LiveGuest.create();
      await using target = new MemoryTarget();
      target.commit = commit;
      expect(codes(await migrate(vm, target))).toEqual(['PEER_ERROR', 'INTERNAL']);
      expect(vm.isRunning).toBe(true);
    },
  );
});

describe.each(['allocate', 'append'] as const)("a target's %s", (name) => {
  it('that throws fails the migration with what it threw', async () => {
    await using vm = await MemoryVm.create({ 'pc.ram': MIB });
    await using target = new MemoryTarget();
    (target as DestinationTarget)[name] = boom;
    const ended = await migrate(vm, target);
    expect(codes(ended)).toEqual(['PEER_ERROR', 'INTERNAL']);
    expect(String(ended.received)).toContain('boom');
  });
});

it("a target's append that returns nothing has done its work", async () => {
  await using vm = await MemoryVm.create({ 'pc.ram': MIB });
  await using target = new MemoryTarget();
  target.append = nothing;
  expect(codes(await migrate(vm, target))).toEqual(['committed', 'committed']);
});

describe('device state', () => {
  it('whose iterator cannot be made is the VMM’s failure', async () => {
    await using vm = await LiveGuest.create();
    await using target = new MemoryTarget();
    vm.after = boom;
    expect(codes(await migrate(vm, target))).toEqual(['GUEST_ERROR', 'PEER_ERROR']);
    expect(vm.isRunning).toBe(true);
  });

  it('whose iterator cannot be ended has been given all the same', async () => {
    await using vm = await LiveGuest.create();
    await using target = new MemoryTarget();
    const whole = vm.after.bind(vm);
    vm.after = () => {
      const pieces = whole();
      return { [Symbol.asyncIterator]: () => ({ next: () => pieces.next(), return: boom }) } as never;
    };
    expect(codes(await migrate(vm, target))).toEqual(['committed', 'committed']);
  });
});

describe('a listener that throws', () => {
  const LISTENERS = [
    ['at once', boom],
    ['later', rejects],
  ] as const;
  it.each(LISTENERS)('%s changes nothing, whatever it listens to', async (_, listener) => {
    await using vm = await LiveGuest.create();
    await using target = new MemoryTarget();
    const warnings: string[] = [];
    const onWarning = (warning: Error): void => void warnings.push(String(warning));
    process.on('warning', onWarning);
    try {
      const watch = (...ends: (MigrationSource | MigrationDestination)[]): void => {
        for (const end of ends)
          for (const event of ['phase', 'notice', 'end'] as const) end.on(event, listener);
      };
      const ended = await migrate(vm, target, { watch: (source, destination) => watch(source, destination) });
      expect(codes(ended)).toEqual(['committed', 'committed']);
      expect(vm.isRunning).toBe(false);
      await expect.poll(() => warnings.filter((text) => text.includes('boom'))).toHaveLength(2);
    } finally {
      process.off('warning', onWarning);
    }
  });

  it('does not keep the next listener from hearing', async () => {
    await using vm = await MemoryVm.create({ 'pc.ram': MIB });
    await using target = new MemoryTarget();
    const heard: string[] = [];
    const watch = (source: MigrationSource): void => {
      source.once('phase', boom);
      source.on('phase', (phase) => heard.push(phase));
    };
    expect(codes(await migrate(vm, target, { watch }))).toEqual(['committed', 'committed']);
    expect(heard).toEqual(['connect', 'negotiate', 'setup', 'ram', 'device-state', 'commit']);
  });

  it('to the notice that the source could not be told leaves the VM where it is', async () => {
    let source: ScriptedSource | undefined;
    await using target = new Committing(async () => {
      // The source dies while the VM is made durable.
      source?.peer.kill();
      await delay(200);
    });
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
      provider: 'iwarp',
      responseTimeoutMs: 5_000,
    });
    destination.on('notice', boom);
    const received = outcome(destination.receive());
    source = await ScriptedSource.connect(Number(destination.uri.split(':').at(-1)), { commit: true });
    await source.reach('stream-done');
    await source.say('COMMIT', source.account.commit());
    expect(await received).toMatchObject({ status: 'completed', outcome: 'unconfirmed' });
    expect(target.aborts).toBe(0);
    await source[Symbol.asyncDispose]();
  });
});
