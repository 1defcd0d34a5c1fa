/** What a list of events adds up to, whatever list it is. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { MigrationEvent } from '../../lib/migration/events.ts';
import type { MigrationProgress } from '../../lib/migration/progress.ts';
import { initialState, type MigrationState, type Reducible, reduce } from '../../lib/migration/reducer.ts';
import { progressOf } from '../../lib/migration/views.ts';

const PAGE = 4096;
const MIB = 2 ** 20;

const fold = (events: readonly Reducible[], from = initialState('listen')): MigrationState =>
  events.reduce<MigrationState>(reduce, from);
const seen = (events: readonly Reducible[], at = events.at(-1)?.at ?? 0): MigrationProgress =>
  progressOf(fold(events), at);

const phase = (at: number, name: 'setup' | 'ram' | 'device-state' | 'commit'): MigrationEvent => ({
  type: 'phase',
  phase: name,
  at,
});
const ram = (at: number, total: number): MigrationEvent => ({
  type: 'link',
  state: 'ram',
  total,
  'page-size': PAGE,
  at,
});
const connected = (at: number, since: number): MigrationEvent => ({
  type: 'link',
  state: 'connected',
  since,
  migrationId: 'an id',
  provider: 'iwarp',
  peer: '127.0.0.1:1',
  'peer-extended': true,
  'pin-all': false,
  agreed: { version: 1, commit: true, resume: true, sparse: true, crc: true, channels: 1 },
  at,
});
const begins = (at: number, round: number, pending?: number, live = false): MigrationEvent => ({
  type: 'round',
  state: 'begins',
  round,
  ...(pending !== undefined && { pending }),
  live,
  at,
});
const ends = (at: number, round: number): MigrationEvent => ({ type: 'round', state: 'ends', round, at });
const bytes = (at: number, content: number, found = content): MigrationEvent => ({
  type: 'bytes',
  content,
  implied: content,
  control: 0,
  found,
  at,
});
const zero = (at: number, done: number, found = done): MigrationEvent => ({
  type: 'zero',
  bytes: done,
  skipped: 0,
  found,
  at,
});
const synced = (at: number, pending: number, rate: number): MigrationEvent => ({
  type: 'round',
  state: 'synced',
  pending,
  'dirty-bytes-rate': rate,
  'collect-time': 1,
  'expected-downtime': 500,
  'downtime-limit': 300,
  'switchover-bandwidth': 100 * MIB,
  verdict: 'converging',
  at,
});
const end = (at: number, status: 'completed' | 'failed' = 'completed'): Reducible => ({
  type: 'end',
  status,
  at,
});
const begun = (total: number, at = 0): MigrationEvent[] => [
  connected(at, at),
  ram(at, total),
  phase(at, 'ram'),
  begins(at, 1, total),
];

describe('times', () => {
  it('count from the connection, not from the wait for it, and stop at the end', () => {
    const events = [
      connected(60_000, 59_900),
      ram(60_000, MIB),
      phase(60_100, 'ram'),
      begins(60_100, 1, MIB),
    ];
    expect(seen([])).toMatchObject({ 'total-time': 0, 'setup-time': 0 });
    expect(seen(events, 60_400)).toMatchObject({ 'total-time': 500, 'setup-time': 200 });
    const over = fold([...events, phase(61_000, 'device-state'), end(61_100)]);
    for (const at of [61_100, 99_000])
      expect(progressOf(over, at)).toMatchObject({ 'total-time': 1_200, 'setup-time': 200 });
  });

  it('of a wait that ended without a source are nothing', () => {
    expect(seen([end(5_000, 'failed')], 9_000)).toMatchObject({ status: 'failed', 'total-time': 0 });
  });
});

describe('what is left', () => {
  it('is all of RAM before anything is known, and nothing once it has been moved', () => {
    expect(seen([connected(0, 0), ram(0, MIB)])).toMatchObject({ percentage: 0, ram: { remaining: MIB } });
    const events = [...begun(MIB), bytes(100, MIB / 2), phase(200, 'device-state')];
    expect(seen(events)).toMatchObject({ percentage: 100, ram: { remaining: 0 } });
  });

  it('counts zeros as content', () => {
    const events = [...begun(4 * MIB), zero(100, MIB), bytes(100, 2 * MIB)];
    expect(seen(events)).toMatchObject({ percentage: 75, ram: { remaining: MIB, duplicate: MIB / PAGE } });
  });

  it('of a later pass is what the guest has written, from the moment that is known', () => {
    const first = [...begun(8 * MIB), bytes(1_000, 8 * MIB), ends(1_000, 1)];
    const known = [...first, synced(1_100, 2 * MIB, MIB)];
    expect(seen(known).ram).toMatchObject({ remaining: 2 * MIB, 'dirty-bytes-rate': MIB });
    const second = [...known, begins(1_200, 2, 2 * MIB, true), bytes(1_300, 9 * MIB)];
    expect(seen(second)).toMatchObject({ percentage: 87.5, ram: { remaining: MIB, 'dirty-sync-count': 2 } });
  });

  it('of a pass nobody has measured is heard of when it is under way', () => {
    const first = [...begun(8 * MIB), bytes(1_000, 8 * MIB), ends(1_000, 1), begins(1_100, 2)];
    expect(seen(first).ram.remaining).toBe(0);
    expect(seen([...first, begins(1_200, 2, 3 * MIB), bytes(1_300, 9 * MIB)]).ram.remaining).toBe(2 * MIB);
  });

  it('is never more than RAM, whatever a peer says', () => {
    const events = [...begun(MIB), ends(10, 1), begins(20, 2, 2 ** 52)];
    expect(seen(events)).toMatchObject({ percentage: 0, ram: { remaining: MIB } });
  });
});

/** Counters that grow, as samples of them are told. */
const samples = fc.array(
  fc.record({ ms: fc.nat(2_000), content: fc.nat(4 * MIB), zero: fc.nat(4 * MIB), found: fc.nat(8 * MIB) }),
  { minLength: 1, maxLength: 40 },
);

describe('any samples of a pass', () => {
  it('never let the percentage or what is left go back, and leave both within bounds', () => {
    fc.assert(
      fc.property(samples, fc.integer({ min: 1, max: 64 * MIB }), (steps, total) => {
        let state = fold(begun(total));
        let [at, content, zeros] = [0, 0, 0];
        let before = progressOf(state, at);
        for (const step of steps) {
          [at, content, zeros] = [at + step.ms, content + step.content, zeros + step.zero];
          state = fold(
            [zero(at, zeros, zeros + step.found), bytes(at, content, content + step.found)],
            state,
          );
          const now = progressOf(state, at);
          expect(now.percentage).toBeGreaterThanOrEqual(before.percentage);
          expect(now.ram.remaining).toBeLessThanOrEqual(before.ram.remaining);
          expect(now.ram.remaining).toBe(Math.max(0, total - content - zeros));
          expect(now.percentage).toBeLessThan(100);
          if (now.eta !== undefined) expect(now.eta).toBeGreaterThanOrEqual(0);
          expect(Number.isFinite(now.ram.mbps)).toBe(true);
          before = now;
        }
      }),
    );
  });

  it('that go back, as a hostile or mistaken one may, change nothing', () => {
    const events = [...begun(4 * MIB), zero(10, MIB), bytes(10, 2 * MIB)];
    expect(seen([...events, zero(20, 0), bytes(20, 0)], 20).ram.remaining).toBe(MIB);
  });
});

describe('the rate', () => {
  it('is that of the last seconds while RAM moves, and the mean afterwards', () => {
    const fast = Array.from({ length: 21 }, (_, i) => bytes(i * 250, i * 10 * MIB));
    const slow = Array.from({ length: 20 }, (_, i) => bytes(5_250 + i * 250, 200 * MIB + (i + 1) * MIB));
    const events = [...begun(2 ** 31), ...fast, ...slow];
    expect((seen(events).ram.mbps * 1e6) / 8).toBeCloseTo(4 * MIB, -3);
    const over = [...events, phase(10_000, 'device-state'), end(10_100)];
    expect((seen(over).ram.mbps * 1e6) / 8).toBeCloseTo(22 * MIB, -3);
  });

  it('falls to nothing while nothing moves, and the time left is not told then', () => {
    const events = [...begun(64 * MIB), bytes(250, MIB), bytes(500, 2 * MIB)];
    expect(seen(events).eta).toBeGreaterThan(0);
    const still = Array.from({ length: 20 }, (_, i) => bytes(750 + i * 250, 2 * MIB));
    expect(seen([...events, ...still])).toMatchObject({ ram: { mbps: 0 } });
    expect(seen([...events, ...still]).eta).toBeUndefined();
  });
});

/**
 * A migration at a constant rate: windows of RAM are looked at as a source does it, one ahead of what is written, each with content and
 * zeros; zeros cost nothing, and the destination hears of all of it when a sample is told.
 */
function simulated(windows: readonly number[], windowBytes: number, rate: number): MigrationEvent[] {
  const total = windows.length * windowBytes;
  const events = [phase(0, 'setup'), connected(0, 0), ram(0, total), phase(0, 'ram'), begins(0, 1, total)];
  const content = windows.map((share) => share * windowBytes);
  const all = content.reduce((sum, part) => sum + part, 0);
  const duration = (all * 1000) / rate;
  for (let at = 0; at < duration; at += 250) {
    const sent = (rate * at) / 1000;
    let [looked, ends] = [0, 0];
    // The window that is written has been looked at whole.
    while (looked < windows.length && ends <= sent) ends += content[looked++] ?? 0;
    const zeros = looked * windowBytes - ends;
    events.push(zero(at, zeros), bytes(at, sent, ends));
  }
  return [...events, zero(duration, total - all), bytes(duration, all), phase(duration, 'device-state')];
}

describe('the time left at a constant rate', () => {
  const share = fc.double({ min: 0.2, max: 1, noNaN: true });
  it('is right, however much of RAM is zero, as soon as some of it has been seen', () => {
    fc.assert(
      fc.property(
        share,
        fc.array(fc.double({ min: 0.8, max: 1.2, noNaN: true }), { minLength: 1, maxLength: 30 }),
        fc.integer({ min: 4, max: 400 }),
        (mean, spread, mibs) => {
          const windows = spread.map((factor) => Math.min(1, mean * factor));
          const events = simulated(windows, 64 * MIB, mibs * MIB);
          const duration = events.at(-1)?.at ?? 0;
          let state = initialState('connect');
          for (const event of events) {
            state = reduce(state, event as Reducible);
            const { eta } = progressOf(state, event.at);
            if (event.type !== 'bytes' || eta === undefined) continue;
            // What has not been looked at is taken to be like what has, so it is off by as much as that is not so.
            const left = duration - event.at;
            expect(eta).toBeGreaterThan(left * 0.6 - 100);
            expect(eta).toBeLessThan(left * 1.6 + 100);
          }
        },
      ),
    );
  });

  it('is exact where all that is left has been looked at', () => {
    const events = simulated([0.3], 256 * MIB, 30 * MIB);
    const duration = events.at(-1)?.at ?? 0;
    const etas = events
      .filter(({ type, at }) => type === 'bytes' && at >= 500 && at < duration)
      .map((event) => ({
        left: duration - event.at,
        eta: seen(events.filter((e) => e.at <= event.at)).eta,
      }));
    expect(etas.length).toBeGreaterThan(5);
    for (const { left, eta } of etas) expect(Math.abs((eta ?? 0) - left)).toBeLessThan(2);
  });
});

describe('the time left of a guest that writes', () => {
  const rounds = (dirty: number): MigrationEvent[] => [
    ...begun(100 * MIB),
    bytes(9_800, 98 * MIB, 100 * MIB),
    bytes(10_000, 100 * MIB),
    ends(10_000, 1),
    synced(10_000, 20 * MIB, dirty),
    begins(10_000, 2, 20 * MIB, true),
    bytes(10_001, 100 * MIB, 120 * MIB),
  ];

  it('reckons with what will have to be sent again', () => {
    const [still = 0, writes = 0] = [0, 5 * MIB].map((dirty) => seen(rounds(dirty)).eta);
    expect(still / 2_000).toBeCloseTo(1, 1);
    expect(writes / still).toBeCloseTo(2, 1);
  });

  it('is not told where it writes as fast as it is sent', () => {
    expect(seen(rounds(40 * MIB)).eta).toBeUndefined();
  });

  it('is that of the last pass once it stands', () => {
    const stopped: MigrationEvent[] = [...rounds(40 * MIB), { type: 'downtime', at: 10_001 }];
    expect((seen(stopped).eta ?? 0) / 2_000).toBeCloseTo(1, 1);
  });
});

describe('the downtime', () => {
  it('is the sum of its parts, from the call of pause on', () => {
    const part = (at: number, ended: 'pause' | 'collect' | 'ram' | 'device-state' | 'commit') =>
      ({ type: 'downtime', ended, at }) as const;
    const events: MigrationEvent[] = [
      part(5, 'commit'),
      ...begun(MIB),
      { type: 'downtime', at: 10 },
      { type: 'downtime', at: 11 },
      part(15, 'pause'),
      part(18, 'collect'),
      part(40, 'ram'),
      part(41, 'device-state'),
      part(50, 'commit'),
    ];
    expect(fold(events).downtime).toEqual({
      parts: { pause: 5, collect: 3, ram: 22, 'device-state': 1, commit: 9 },
      began: 10,
      marked: 50,
    });
  });

  it('stands in the progress of a live migration, with its rounds', () => {
    const events: MigrationEvent[] = [
      connected(0, 0),
      ram(0, 8 * MIB),
      phase(0, 'ram'),
      begins(0, 1, 8 * MIB, true),
      zero(90, MIB),
      bytes(90, 7 * MIB),
      ends(100, 1),
      synced(110, MIB, 3 * MIB),
      { type: 'throttle', percentage: 20, at: 110 },
      begins(120, 2, MIB, true),
      bytes(150, 8 * MIB),
      ends(160, 2),
      { type: 'downtime', at: 200 },
      { type: 'downtime', ended: 'pause', at: 210 },
      begins(210, 3, 0, true),
      ends(230, 3),
      { type: 'downtime', ended: 'ram', at: 230 },
    ];
    const { live } = seen(events);
    expect(live).toMatchObject({ downtime: 30, 'expected-downtime': 500, 'cpu-throttle-percentage': 20 });
    expect(live?.rounds).toMatchObject([
      {
        round: 1,
        time: 100,
        'dirty-pages': 2048,
        normal: 1792,
        duplicate: 256,
        'cpu-throttle-percentage': 0,
      },
      { round: 2, time: 40, 'dirty-pages': 256, 'dirty-pages-rate': 768, verdict: 'converging' },
      { round: 3, time: 20, 'dirty-pages': 0 },
    ]);
    expect(live?.rounds[0]).not.toHaveProperty('verdict');
    expect(live?.rounds[2]).not.toHaveProperty('verdict');
  });

  it('keeps the last 256 rounds', () => {
    const events = Array.from({ length: 300 }, (_, i) => [
      begins(i, i + 1, MIB, true),
      ends(i, i + 1),
    ]).flat();
    const { live, ram: counted } = seen(events);
    expect(live?.rounds).toHaveLength(256);
    expect([live?.rounds[0]?.round, counted['dirty-sync-count']]).toEqual([45, 300]);
  });
});
