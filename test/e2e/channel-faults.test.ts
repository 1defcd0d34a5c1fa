/** Migrations over several channels of which one hangs, lags or breaks at a chosen moment. */
import { setTimeout as delay } from 'node:timers/promises';
import { expect, it } from 'vitest';
import {
  type DestinationOptions,
  MigrationDestination,
  type MigrationError,
  type MigrationResult,
  MigrationSource,
  type SourceOptions,
} from '../../lib/index.ts';
import { Committing, outcome } from '../support/endings.ts';
import { MemoryTarget, MemoryVm, noise, poke } from '../support/memory-vm.ts';
import { RailProxy, type Treatment } from '../support/rail-proxy.ts';
import { privateData } from '../support/raw-control.ts';
import { RawPeer } from '../support/raw-iwarp.ts';

const MIB = 1n << 20n;
const LIMITS = { provider: 'iwarp', responseTimeoutMs: 10_000, channels: 2 } as const;
/** A call that has gone wrong has been seen by then; one that is right waits for as long as it is made to. */
const A_WHILE_MS = 1_000;

/** Calls when the VM's device state is asked for: RAM has been moved by then. */
function afterRam(vm: MemoryVm, then: () => void): void {
  const original = vm.after.bind(vm);
  let asked = 0;
  vm.after = () => {
    asked += 1;
    // The first time it is only looked at, before RAM moves.
    if (asked === 2) then();
    return original();
  };
}

async function noisyVm(): Promise<MemoryVm> {
  const vm = await MemoryVm.create({ 'pc.ram': 32n * MIB });
  await poke(vm.blocks[0] as MemoryVm['blocks'][0], 0n, noise(32n * MIB));
  return vm;
}

const digestOf = async ({ blocks }: Pick<MemoryVm, 'blocks'>): Promise<string> =>
  (await blocks[0]?.mapping.digest()) ?? '';

interface Ended {
  readonly sent: MigrationResult | MigrationError;
  readonly received: MigrationResult | MigrationError;
}

/** Two ends with a proxy between them. */
class Scene implements AsyncDisposable {
  readonly notices: string[] = [];
  readonly cancel = new AbortController();
  readonly vm: MemoryVm;
  readonly target: MemoryTarget;
  readonly destination: MigrationDestination;
  readonly proxy: RailProxy;

  private constructor(
    vm: MemoryVm,
    target: MemoryTarget,
    destination: MigrationDestination,
    proxy: RailProxy,
  ) {
    this.vm = vm;
    this.target = target;
    this.destination = destination;
    this.proxy = proxy;
  }

  static async set(treatment: Treatment, options: DestinationOptions = {}, target = new MemoryTarget()) {
    const vm = await noisyVm();
    const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
      ...LIMITS,
      ...options,
    });
    const proxy = await RailProxy.open(Number(destination.uri.split(':').at(-1)), treatment);
    return new Scene(vm, target, destination, proxy);
  }

  run(options: SourceOptions = {}): { source: MigrationSource; ended: Promise<Ended> } {
    const source = new MigrationSource(this.vm, this.proxy.uri, { ...LIMITS, ...options });
    source.on('notice', (notice) => this.notices.push(notice));
    const received = outcome(this.destination.receive());
    const sent = outcome(source.migrate({ signal: this.cancel.signal }));
    return { source, ended: Promise.all([sent, received]).then(([s, r]) => ({ sent: s, received: r })) };
  }

  async arrives({ sent, received }: Ended): Promise<void> {
    expect(sent).toMatchObject({ outcome: 'committed' });
    expect(received).toMatchObject({ outcome: 'committed' });
    expect(await digestOf(this.target)).toBe(await digestOf(this.vm));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.destination.close();
    await this.proxy[Symbol.asyncDispose]();
    await this.vm[Symbol.asyncDispose]();
    await this.target[Symbol.asyncDispose]();
  }
}

it('a channel whose handshake hangs is left out at both ends, and the destination does not give up', async () => {
  const limits = { channels: 4, responseTimeoutMs: 4_000, connectTimeoutMs: 120_000 };
  await using scene = await Scene.set({ silent: [1, 3] }, limits);
  const ended = await scene.run(limits).ended;
  await scene.arrives(ended);
  expect([ended.sent, ended.received]).toMatchObject([{ channels: 2 }, { channels: 2 }]);
  expect(scene.notices).toEqual([expect.stringMatching(/^only 2 of 4 channels could be made, /)]);
});

it('a source has its channels beside a crowd of peers that are connected and silent', async () => {
  await using scene = await Scene.set({}, { channels: 4 });
  const port = Number(scene.destination.uri.split(':').at(-1));
  const received = outcome(scene.destination.receive());
  const crowd: RawPeer[] = [];
  try {
    while (crowd.length < 40) {
      const peer = await RawPeer.tcp(port);
      await peer.request(privateData({ commit: true }));
      crowd.push(peer);
    }
    const sent = await outcome(
      new MigrationSource(scene.vm, scene.proxy.uri, { ...LIMITS, channels: 4 }).migrate(),
    );
    await scene.arrives({ sent, received: await received });
    expect(sent).toMatchObject({ channels: 4 });
  } finally {
    for (const peer of crowd) await peer[Symbol.asyncDispose]();
  }
});

it('a round is over when a channel that lags has delivered it, and not before', async () => {
  await using scene = await Scene.set({ hold: { connection: 1, atByte: 1 << 20 } });
  let ramIsOver = false;
  afterRam(scene.vm, () => {
    ramIsOver = true;
  });
  const { ended } = scene.run();
  while (!scene.proxy.struck) await delay(5);
  await delay(A_WHILE_MS);
  expect(ramIsOver).toBe(false);
  scene.proxy.hold(1, 'destination', false);
  await scene.arrives(await ended);
});

it('COMMIT is not sent before every channel has answered', async () => {
  const target = new Committing(async () => {
    committed = true;
  });
  let committed = false;
  await using scene = await Scene.set({}, {}, target);
  let held = false;
  afterRam(scene.vm, () => {
    scene.proxy.hold(1, 'destination');
    held = true;
  });
  const { ended } = scene.run();
  while (!held) await delay(5);
  await delay(A_WHILE_MS);
  expect(committed).toBe(false);
  scene.proxy.hold(1, 'destination', false);
  await scene.arrives(await ended);
});

it('a channel that breaks while the destination makes the VM durable ends nothing', async () => {
  const target = new Committing(async () => {
    scene.proxy.reset(1);
    await delay(A_WHILE_MS);
  });
  await using scene = await Scene.set({}, {}, target);
  const { ended } = scene.run();
  await scene.arrives(await ended);
  expect((await ended).sent).toMatchObject({ channels: 2 });
});

it('a cancel between the last barrier and COMMIT gives the VM back: its outcome is known', async () => {
  const limits = { responseTimeoutMs: 4_000 };
  const target = new Committing(async () => {});
  await using scene = await Scene.set({}, limits, target);
  afterRam(scene.vm, () => scene.proxy.hold(1, 'source'));
  const { source, ended } = scene.run(limits);
  await new Promise<void>((resolve) => {
    source.on('phase', (phase) => phase === 'commit' && resolve());
  });
  await delay(300); // the device state has gone, and the turn after it has come
  // An ALIVE takes that turn while the barrier is waited for, and the next one does not come.
  await new Promise<void>((resolve) => {
    scene.proxy.onData = (connection) => {
      if (connection !== 0) return;
      scene.proxy.hold(0, 'source');
      resolve();
    };
  });
  scene.proxy.hold(1, 'source', false);
  await delay(200); // the barrier passes
  scene.cancel.abort();
  const { sent, received } = await ended;
  expect(sent).toMatchObject({ code: 'CANCELLED' });
  expect(received).toMatchObject({ code: 'PEER_ERROR' });
  expect(target.aborts).toBe(1);
});
