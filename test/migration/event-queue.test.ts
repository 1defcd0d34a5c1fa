import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { EventQueue, MOST_QUEUED } from '../../lib/migration/event-queue.ts';
import type { MigrationEvent } from '../../lib/migration/events.ts';

const sample = (at: number): MigrationEvent => ({ type: 'pin', registered: at, peak: at, at });
const phase = (at: number): MigrationEvent => ({ type: 'phase', phase: 'ram', at });
const zero = (at: number): MigrationEvent => ({ type: 'zero', bytes: at, skipped: 0, found: at, at });
const throttle = (at: number): MigrationEvent => ({ type: 'throttle', percentage: at % 100, at });
const downtime = (at: number): MigrationEvent => ({ type: 'downtime', at });
const KEPT = [phase, throttle, downtime];
const note = (at: number): MigrationEvent => ({
  type: 'notice',
  code: 'THROTTLED',
  message: `${at}`,
  details: {},
  at,
});

async function drained(queue: EventQueue): Promise<MigrationEvent[]> {
  queue.close();
  const events: MigrationEvent[] = [];
  for await (const event of queue.drain()) events.push(event);
  return events;
}

describe('events that nobody takes', () => {
  it('stay bounded, and keep every phase, downtime and throttle, the newest sample and their order', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.constantFrom(sample, sample, zero, note), { minLength: 0, maxLength: 1500 }),
        fc.array(fc.nat(1500), { maxLength: 20 }),
        async (makers, phases) => {
          const queue = new EventQueue();
          const pushed: MigrationEvent[] = [];
          for (const [at, make] of makers.entries()) {
            const kept = KEPT[at % KEPT.length] ?? phase;
            const event = phases.includes(at) ? kept(at) : make(at);
            pushed.push(event);
            queue.push(event);
            expect(queue.length).toBeLessThanOrEqual(MOST_QUEUED);
          }
          const left = await drained(queue);
          expect(left).toEqual(pushed.filter((event) => left.includes(event)));
          const stays = ({ type }: MigrationEvent): boolean =>
            ['phase', 'downtime', 'throttle'].includes(type);
          expect(left.filter(stays)).toEqual(pushed.filter(stays));
          // The newest of the samples of a kind says what those before it said.
          for (const kind of ['pin', 'zero'] as const) {
            const newest = pushed.findLast(({ type }) => type === kind);
            if (newest) expect(left).toContain(newest);
          }
        },
      ),
      { numRuns: 30 },
    );
  });

  it('give samples up before anything else', async () => {
    const queue = new EventQueue();
    for (let at = 0; at < MOST_QUEUED - 10; at++) queue.push(note(at));
    for (let at = 0; at < 100; at++) queue.push(sample(at));
    const left = await drained(queue);
    expect(left.filter(({ type }) => type === 'notice')).toHaveLength(MOST_QUEUED - 10);
    expect(left.at(-1)).toEqual(sample(99));
  });

  it('give up the oldest notice where the only sample is the newest', async () => {
    const queue = new EventQueue();
    queue.push(sample(0));
    for (let at = 1; at <= 2 * MOST_QUEUED; at++) queue.push(note(at));
    const left = await drained(queue);
    expect([left.length, left[0], left[1]]).toEqual([MOST_QUEUED, sample(0), note(MOST_QUEUED + 2)]);
  });
});

it('a reader that waits is woken by the next event, and by the end', async () => {
  const queue = new EventQueue();
  const events = queue.drain();
  const first = events.next();
  queue.push(phase(1));
  expect(await first).toEqual({ done: false, value: phase(1) });
  const last = events.next();
  queue.close();
  expect(await last).toEqual({ done: true, value: undefined });
});
