/** The story of one migration as both of its ends tell it: how far it is, how long it takes still, and how long it took. */
import { setTimeout as delay } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import {
  MigrationDestination,
  type MigrationEvent,
  type MigrationProgress,
  type MigrationResult,
  MigrationSource,
  type SourceOptions,
} from '../../lib/index.ts';
import { initialState, type MigrationState, reduce } from '../../lib/migration/reducer.ts';
import { progressOf, resultOf } from '../../lib/migration/views.ts';
import { MemoryTarget, MemoryVm, noise, PAGE, poke } from '../support/memory-vm.ts';

const MIB = 1n << 20n;
const RAM = 72n * MIB;
const RATE = 10n * MIB;

interface Told {
  readonly events: readonly MigrationEvent[];
  readonly result: MigrationResult;
}

interface Both {
  readonly source: Told;
  readonly destination: Told;
  /** Both ends at the same moment, every 100 ms. */
  readonly moments: readonly (readonly [MigrationProgress, MigrationProgress])[];
}

type Fill = (vm: MemoryVm) => Promise<void>;

/** 16 KiB of content, 32 KiB of zeros, and so on: no registration shows which. */
const scattered: Fill = async ({ blocks: [block] }) => {
  for (let at = 0n; block && at < RAM; at += 12n * PAGE) await poke(block, at, noise(4n * PAGE));
};
/** 4 MiB of content, 8 MiB of zeros, and so on. */
const inRuns: Fill = async ({ blocks: [block] }) => {
  for (let at = 0n; block && at < RAM; at += 12n * MIB) await poke(block, at, noise(4n * MIB));
};

/** A third of RAM has content, and max-bandwidth makes that take some seconds. */
async function migrated(fill: Fill, fresh: boolean, options: SourceOptions = {}): Promise<Both> {
  await using vm = await MemoryVm.create({ 'pc.ram': RAM });
  await fill(vm);
  await using target = new MemoryTarget({ fresh });
  const provider = 'iwarp';
  await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, { provider });
  const source = new MigrationSource(vm, destination.uri, { provider, maxBandwidth: RATE, ...options });
  const events: [MigrationEvent[], MigrationEvent[]] = [[], []];
  source.on('event', (event) => events[0].push(event));
  destination.on('event', (event) => events[1].push(event));
  const moments: [MigrationProgress, MigrationProgress][] = [];
  const look = setInterval(() => moments.push([source.current, destination.current]), 100);
  const results = await Promise.all([source.migrate(), destination.receive()]).finally(() =>
    clearInterval(look),
  );
  return {
    source: { events: events[0], result: results[0] },
    destination: { events: events[1], result: results[1] },
    moments,
  };
}

const inRam = (progress: MigrationProgress): boolean => progress.phase === 'ram';
const median = (values: readonly number[]): number =>
  values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;

/**
 * The same events, as if content had been moved at a constant rate: a busy machine and its pauses leave nothing in them but what each end knew
 * when so much had been moved.
 */
function atConstantRate(events: readonly MigrationEvent[]): MigrationEvent[] {
  const phaseAt = (phase: string): number =>
    events.find((event) => event.type === 'phase' && event.phase === phase)?.at ?? Number.NaN;
  const [began, ended] = [phaseAt('ram'), phaseAt('device-state')];
  const all = Math.max(...events.map((event) => (event.type === 'bytes' ? event.content : 0)));
  let moved = 0;
  return events.map((event) => {
    if (event.type === 'bytes') moved = event.content;
    const inRam = event.at > began && event.at < ended;
    return inRam ? { ...event, at: began + ((ended - began) * moved) / all } : event;
  });
}

/** By how much the time left was wrong whenever counters were told, as a part of what was left, with its true end known. */
function etaErrors(told: Told): number[] {
  const events = atConstantRate(told.events);
  const end = events.find((event) => event.type === 'phase' && event.phase === 'device-state')?.at ?? 0;
  const errors: number[] = [];
  let state: MigrationState = initialState('connect');
  for (const event of events) {
    state = reduce(state, event);
    const { eta } = progressOf(state, event.at);
    // At the very end what remains is a few messages.
    if (event.type === 'bytes' && eta !== undefined && end - event.at > 300)
      errors.push(Math.abs(eta - (end - event.at)) / (end - event.at));
  }
  return errors;
}

function expectOnward(steps: readonly MigrationProgress[]): void {
  for (const [i, step] of steps.entries()) {
    const before = steps[i - 1] ?? step;
    expect(step.percentage).toBeGreaterThanOrEqual(before.percentage);
    expect(step.ram.remaining).toBeLessThanOrEqual(before.ram.remaining);
    expect(step['total-time']).toBeGreaterThanOrEqual(before['total-time']);
  }
}

describe.each([
  ['scattered zeros that need no word', scattered, true, {}],
  ['zeros that are told', inRuns, false, {}],
  ['a pin budget', inRuns, true, { pinBudget: 8n * MIB }],
  ['pin-all', inRuns, true, { pinAll: true }],
] as const)('a throttled migration with %s', (_, fill, fresh, options) => {
  it('is as far at both ends at the same moment, goes on only, and says how long it takes still', async () => {
    const both = await migrated(fill, fresh, options);
    const { source, destination, moments } = both;
    const seen = moments.filter(([sender, receiver]) => inRam(sender) && inRam(receiver));
    // The source says how far it is twice a second; what it has sent since then is on its way.
    const apart = seen.slice(seen.length >> 1).map(([a, b]) => Math.abs(a.percentage - b.percentage));
    expect(apart.length).toBeGreaterThan(3);
    expect(median(apart)).toBeLessThan(2);
    for (const end of [0, 1] as const) expectOnward(seen.map((moment) => moment[end]));
    for (const told of [source, destination]) {
      const errors = etaErrors(told);
      expect(errors.length).toBeGreaterThan(3);
      expect(median(errors)).toBeLessThan(0.1);
    }
    const counted = ({ result: { ram } }: Told) => [
      ram.total,
      ram.remaining,
      ram['normal-bytes'],
      ram.duplicate,
    ];
    expect(counted(destination)).toEqual(counted(source));
  });
});

describe('the events of a migration', () => {
  it('are few, in order, and give the result again', async () => {
    const { source, destination } = await migrated(inRuns, true, { maxBandwidth: 40n * MIB });
    for (const { events, result } of [source, destination]) {
      const times = events.map(({ at }) => at);
      expect(times).toEqual(times.toSorted((a, b) => a - b));
      expect(events.at(-1)).toMatchObject({ type: 'end', status: 'completed', result });
      const samples = events.filter(({ type }) => type === 'bytes').length;
      expect(samples).toBeLessThan(10 + (times.at(-1) ?? 0) / 100);
      const state = events.reduce<MigrationState>(reduce, initialState('connect'));
      expect(resultOf(state, result)).toEqual(result);
      // Plain data, but for an error.
      expect(structuredClone(events)).toEqual(events);
    }
    const rounds = source.events.filter(({ type }) => type === 'round' || type === 'phase');
    expect(
      rounds.map((event) => ('phase' in event ? event.phase : (event as { state: string }).state)),
    ).toEqual(['connect', 'negotiate', 'setup', 'ram', 'begins', 'ends', 'device-state', 'commit']);
  });
});

describe('total time and setup time', () => {
  it('of a destination leave out its wait for a source, and stop at the end', async () => {
    await using vm = await MemoryVm.create({ 'pc.ram': MIB });
    await using target = new MemoryTarget();
    await using destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, {
      provider: 'iwarp',
    });
    const received = destination.receive();
    await delay(700);
    expect(destination.current).toMatchObject({ phase: 'listen', 'total-time': 0, 'setup-time': 0 });
    const began = performance.now();
    await new MigrationSource(vm, destination.uri, { provider: 'iwarp' }).migrate();
    const result = await received;
    const took = performance.now() - began;
    expect(result['total-time']).toBeLessThanOrEqual(took + 1);
    expect(result['setup-time']).toBeLessThanOrEqual(result['total-time']);
    await delay(50);
    expect(destination.current['total-time']).toBe(result['total-time']);
    expect(destination.current).toMatchObject({ status: 'completed', eta: 0, percentage: 100 });
  });

  it('of a destination that waits in vain are nothing', async () => {
    await using target = new MemoryTarget();
    const destination = await MigrationDestination.listen('rdma:127.0.0.1:0', target, { provider: 'iwarp' });
    const received = destination.receive();
    received.catch(() => {});
    await delay(100);
    await destination.close();
    await expect(received).rejects.toMatchObject({ code: 'CANCELLED' });
    expect(destination.current).toMatchObject({ status: 'cancelled', 'total-time': 0 });
  });
});
