/** Whoever watches a migration hears all of it, and changes nothing. */
import { channel, subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import {
  MigrationDestination,
  type MigrationEvent,
  type MigrationLogger,
  MigrationSource,
  type NoticeEvent,
} from '../../lib/index.ts';
import { type MigrationMessage, publish } from '../../lib/migration/diagnostics.ts';
import { type MigrationEventType, NOTICE_CODES } from '../../lib/migration/events.ts';
import { codes, migrate } from '../support/endings.ts';
import { failure } from '../support/live-attempt.ts';
import { MemoryTarget, MemoryVm } from '../support/memory-vm.ts';

const MIB = 1n << 20n;
const small = (): Promise<MemoryVm> => MemoryVm.create({ 'pc.ram': MIB });
const PHASES = ['connect', 'negotiate', 'setup', 'ram', 'device-state', 'commit'];
const phasesOf = (events: readonly MigrationEvent[]): string[] =>
  events.flatMap((event) => (event.type === 'phase' ? [event.phase] : []));

describe('an iterator over events', () => {
  it('yields every one from where it was asked for, up to the end', async () => {
    await using vm = await small();
    await using target = new MemoryTarget();
    const heard: MigrationEvent[] = [];
    let read: Promise<MigrationEvent[]> | undefined;
    await migrate(vm, target, {
      watch: (source) => {
        source.on('event', (event) => heard.push(event));
        read = collect(source.events());
      },
    });
    expect(await read).toEqual(heard);
    expect(heard.at(-1)).toMatchObject({ type: 'end', status: 'completed' });
  });

  it('that nobody reads, or reads slowly, holds nothing up, and has every phase and the end', async () => {
    await using vm = await small();
    await using target = new MemoryTarget();
    let events: AsyncGenerator<MigrationEvent, void, undefined> | undefined;
    const ended = await migrate(vm, target, {
      watch: (source) => {
        events = source.events();
        source.events();
      },
    });
    expect(codes(ended)).toEqual(['committed', 'committed']);
    const read: MigrationEvent[] = [];
    for await (const event of events ?? []) {
      await delay(1);
      read.push(event);
    }
    expect(phasesOf(read)).toEqual(PHASES);
    expect(read.at(-1)?.type).toBe('end');
  });

  it('that is left early is left alone, and one of a migration that has ended is empty', async () => {
    await using vm = await small();
    await using target = new MemoryTarget();
    let first: Promise<MigrationEvent | undefined> | undefined;
    let source: MigrationSource | undefined;
    const ended = await migrate(vm, target, {
      watch: (given) => {
        source = given;
        first = (async () => {
          for await (const event of given.events()) return event;
          return undefined;
        })();
      },
    });
    expect(codes(ended)).toEqual(['committed', 'committed']);
    expect(await first).toMatchObject({ type: 'phase', phase: 'connect' });
    expect(await collect((source as MigrationSource).events())).toEqual([]);
  });

  it('of a source that is closed before it begins ends with that', async () => {
    await using vm = await small();
    const source = new MigrationSource(vm, 'rdma:127.0.0.1:1');
    const read = collect(source.events());
    await source.close();
    expect(await read).toMatchObject([
      { type: 'end', status: 'cancelled', error: { code: 'CANCELLED' }, at: 0 },
    ]);
  });
});

async function collect(events: AsyncIterable<MigrationEvent>): Promise<MigrationEvent[]> {
  const all: MigrationEvent[] = [];
  for await (const event of events) all.push(event);
  return all;
}

const boom = (): never => {
  throw new Error('boom');
};
const SUBSCRIBERS = [
  ['throws', boom],
  ['rejects', () => Promise.reject(new Error('boom'))],
] as const;

describe.each(SUBSCRIBERS)('a subscriber that %s', (_, subscriber) => {
  it('is told of once, to the others, and changes nothing', async () => {
    await using vm = await small();
    await using target = new MemoryTarget();
    const logger = { debug: subscriber, info: subscriber, warn: subscriber, error: subscriber };
    const notices: NoticeEvent[] = [];
    const ended = await migrate(vm, target, {
      source: { logger: logger as MigrationLogger },
      watch: (source, destination) => {
        for (const end of [source, destination])
          for (const name of ['event', 'phase', 'notice', 'end'] as const) end.on(name, subscriber);
        source.on('notice', (_message, notice) => notices.push(notice));
      },
    });
    expect(codes(ended)).toEqual(['committed', 'committed']);
    expect(notices.map(({ code }) => code)).toEqual(['SUBSCRIBER_FAILED']);
    expect(notices[0]?.message).toContain('boom');
  });
});

describe('a logger', () => {
  /** Lines as pino writes them. */
  function pinoLines(): { logger: MigrationLogger; lines: () => Record<string, unknown>[] } {
    const lines: string[] = [];
    const logger = pino({ level: 'debug' }, { write: (line: string) => void lines.push(line) });
    return { logger, lines: () => lines.map((line) => JSON.parse(line)) };
  }
  const [DEBUG, INFO, ERROR] = [20, 30, 50];

  it('that is pino has phases and rounds as debug, the peer and the end as info, and no samples', async () => {
    await using vm = await small();
    await using target = new MemoryTarget();
    const { logger, lines } = pinoLines();
    await migrate(vm, target, { source: { logger }, destination: { logger } });
    for (const role of ['source', 'destination']) {
      const own = lines().filter((line) => line.role === role);
      const types = (level: number) =>
        new Set(own.filter((line) => line.level === level).map(({ type }) => type));
      expect(types(INFO)).toEqual(new Set(['link', 'end']));
      // A source says of each try that it connects.
      const tries = role === 'source' ? ['link'] : [];
      expect(types(DEBUG)).toEqual(new Set(['phase', 'round', ...tries]));
      expect(own.at(-1)).toMatchObject({ level: INFO, msg: 'migration completed', status: 'completed' });
    }
  });

  it('has a failure as error, with what was thrown', async () => {
    await using vm = await small();
    const { logger, lines } = pinoLines();
    const error = await failure(
      new MigrationSource(vm, 'rdma:127.0.0.1:1', { logger, provider: 'iwarp' }).migrate(),
    );
    expect(lines().at(-1)).toMatchObject({
      level: ERROR,
      role: 'source',
      status: 'failed',
      err: { type: 'MigrationError', code: error.code },
    });
  });

  it('that has not what it needs is refused', async () => {
    await using vm = await small();
    const logger = { info: () => {} } as unknown as MigrationLogger;
    expect(() => new MigrationSource(vm, 'rdma:h:1', { logger })).toThrow(/a logger with debug.* for logger/);
    await using target = new MemoryTarget();
    const listening = MigrationDestination.listen('rdma:127.0.0.1:0', target, { logger });
    await expect(listening).rejects.toMatchObject({ code: 'INVALID_ARGUMENT' });
  });
});

it('every notice and every type of event is in the documentation', async () => {
  const text = await readFile(new URL('../../docs/events.md', import.meta.url), 'utf8');
  for (const code of NOTICE_CODES) expect(text).toContain(`| \`${code}\` |`);
  const types = [...text.matchAll(/^\| `([a-z]+)` \| /gm)].map(([, type]) => type);
  const known: MigrationEventType[] = [
    ...(['phase', 'link', 'round', 'bytes', 'zero', 'pin'] as const),
    ...(['downtime', 'throttle', 'notice', 'end'] as const),
  ];
  expect(types).toEqual(expect.arrayContaining(known));
});

describe('diagnostics channels', () => {
  it('carry every event of every migration of the process, and those of one type', async () => {
    await using vm = await small();
    await using target = new MemoryTarget();
    const [all, ends]: [MigrationMessage[], MigrationMessage[]] = [[], []];
    const toAll = (message: unknown): void => void all.push(message as MigrationMessage);
    const toEnds = (message: unknown): void => void ends.push(message as MigrationMessage);
    subscribe('rdma-migrate:migration:event', toAll);
    subscribe('rdma-migrate:migration:end', toEnds);
    let watched: readonly unknown[] = [];
    try {
      await migrate(vm, target, { watch: (...given) => (watched = given.slice(0, 2)) });
    } finally {
      unsubscribe('rdma-migrate:migration:event', toAll);
      unsubscribe('rdma-migrate:migration:end', toEnds);
    }
    const [source, destination] = watched;
    const own = (migration: unknown) => all.filter((message) => message.migration === migration);
    expect(phasesOf(own(source).map(({ event }) => event))).toEqual(PHASES);
    expect(new Set(own(source).map(({ role }) => role))).toEqual(new Set(['source']));
    expect(phasesOf(own(destination).map(({ event }) => event))).toEqual(['listen', ...PHASES.slice(1)]);
    expect(ends.map(({ role }) => role).sort()).toEqual(['destination', 'source']);
    expect(ends.every(({ migration }) => watched.includes(migration))).toBe(true);
    expect(channel('rdma-migrate:migration:event').hasSubscribers).toBe(false);
  });

  it('are not lost when the collector comes between an event and who subscribes then', async () => {
    setFlagsFromString('--expose-gc');
    const collect = runInNewContext('gc') as () => void;
    const message = { role: 'source', migration: {}, event: { type: 'notice' } } as MigrationMessage;
    const heard: unknown[] = [];
    const hear = (given: unknown): void => void heard.push(given);
    const finalized: string[] = [];
    const registry = new FinalizationRegistry<string>((what) => finalized.push(what));
    publish(message);
    registry.register({}, 'what nobody holds');
    await delay(1); // in the turn of its use nothing is collected
    collect();
    subscribe('rdma-migrate:migration:notice', hear);
    try {
      await expect.poll(() => finalized).toHaveLength(1);
      await delay(0); // and whatever else was finalized with it
      publish(message);
    } finally {
      unsubscribe('rdma-migrate:migration:notice', hear);
    }
    expect(heard).toEqual([message]);
  });
});
