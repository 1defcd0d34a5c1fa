/** Somebody in between who repeats, leaves out, swaps, forges or cuts off records, or pretends that an end was orderly. */
import { randomBytes } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { type Between, byUnits, type Passed, type Passing, type Towards } from '../../support/tcp-proxy.ts';
import { partOf, type Unit } from '../../support/wire-units.ts';
import { attack, type Outcome } from './attack.ts';
import { codeOf, judge } from './judge.ts';
import { SecretVm } from './secret-vm.ts';
import { psk, type Way, way, x509 } from './ways.ts';

const PAGES = 32;
const WAYS = [way('x509', x509(), 1), way('a shared key', psk(), 2)] as const;

/** Acts on the records of one way; `number` counts them from 0. */
const onRecords = (act: (record: Buffer, number: number, unit: Unit) => Buffer | Passed): Passing => {
  let number = 0;
  return byUnits((unit) => (unit.kind === 'record' ? act(unit.bytes, number++, unit) : unit.bytes));
};

/** On one way of one connection; a new attacker for each. */
const on =
  (towards: Towards, make: () => Passing, connection = 0): Between =>
  (number, way) =>
    number === connection && way === towards ? make() : undefined;

/** The records of which something is done: one of the first, and one in the middle of the messages. */
const PLACES = [0, 1, 4];

function swapped(place: number): Passing {
  let kept: Buffer | undefined;
  return onRecords((record, number) => {
    if (number === place) {
      kept = record;
      return Buffer.alloc(0);
    }
    if (kept === undefined) return record;
    const both = Buffer.concat([record, kept]);
    kept = undefined;
    return both;
  });
}

function earlier(place: number): Passing {
  const seen: Buffer[] = [];
  return onRecords((record, number) => {
    seen.push(Buffer.from(record));
    return number === place + 1 ? Buffer.concat([record, seen[0] as Buffer]) : record;
  });
}

const DEEDS: Readonly<Record<string, (place: number) => Passing>> = {
  'is repeated': (place) =>
    onRecords((record, number) => (number === place ? Buffer.concat([record, record]) : record)),
  'comes again later': earlier,
  'is left out': (place) => onRecords((record, number) => (number === place ? Buffer.alloc(0) : record)),
  'changes places with the next one': swapped,
  'is one of noise': (place) =>
    onRecords((record, number) =>
      number === place ? Buffer.concat([record.subarray(0, 5), randomBytes(record.length - 5)]) : record,
    ),
  'follows one of noise': (place) =>
    onRecords((record, number) =>
      number === place
        ? Buffer.concat([Buffer.from('1703030040', 'hex'), randomBytes(0x40), record])
        : record,
    ),
  'follows a frame in the clear': (place) =>
    onRecords((record, number) => (number === place ? Buffer.concat([Buffer.alloc(24), record]) : record)),
  'loses its last byte': (place) =>
    onRecords((record, number) => (number === place ? record.subarray(0, -1) : record)),
};

/** Both fail, with known codes; nobody has completed. */
function expectFailure(outcome: Outcome, towards: Towards): void {
  const strike = { connection: 0, towards, part: 'messages', offset: 0 } as const;
  const ends = `${codeOf(outcome.source)}, ${codeOf(outcome.destination)}`;
  expect(judge(outcome, strike), ends).toEqual([]);
  if (outcome.next) expect(outcome.next).toMatchObject({ outcome: 'committed' });
  expect(outcome.source, ends).toBeInstanceOf(Error);
}

describe.each(WAYS.map((each) => [each.name, each] as const))('with %s a migration fails where', (_, way) => {
  it.concurrent.each(
    Object.keys(DEEDS).flatMap((deed) =>
      PLACES.flatMap((place) =>
        (['source', 'destination'] as const).map((towards) => [place, towards, deed] as const),
      ),
    ),
  )('record %i towards the %s %s', async (place, towards, deed) => {
    await using vm = await SecretVm.create(PAGES);
    const make = DEEDS[deed] as (place: number) => Passing;
    expectFailure(
      await attack(
        vm,
        way,
        on(towards, () => make(place)),
      ),
      towards,
    );
  });

  it.concurrent.each(['source', 'destination'] as const)(
    'it is cut off between two records, towards the %s',
    async (towards) => {
      await using vm = await SecretVm.create(PAGES);
      const cut = (): Passing =>
        onRecords((record, number) => (number === 3 ? { bytes: record, ending: 'end' } : record));
      const outcome = await attack(vm, way, on(towards, cut));
      expectFailure(outcome, towards);
      const cutOff = towards === 'source' ? outcome.source : outcome.destination;
      expect(['CONNECTION_LOST', 'COMMIT_UNKNOWN']).toContain(codeOf(cutOff));
    },
  );

  it.concurrent('records of one way are sent back', async () => {
    await using vm = await SecretVm.create(PAGES);
    let own: Buffer | undefined;
    const between: Between = (connection, towards) => {
      if (connection !== 0) return undefined;
      return towards === 'destination'
        ? onRecords((record) => {
            own ??= Buffer.from(record);
            return record;
          })
        : onRecords((record) => own ?? record);
    };
    expectFailure(await attack(vm, way, between), 'source');
  });
});

it('a rail’s records are of no use on another connection', async () => {
  await using vm = await SecretVm.create(PAGES);
  let stolen: Buffer | undefined;
  const between: Between = (connection, towards) => {
    if (towards !== 'destination') return undefined;
    if (connection === 1)
      return onRecords((record) => {
        stolen ??= Buffer.from(record);
        return record;
      });
    return onRecords((record) => (stolen ? Buffer.concat([stolen, record]) : record));
  };
  expectFailure(await attack(vm, WAYS[1], between), 'destination');
});

/** Ends without the commit handshake: the orderly end of the connection is all that they have. */
const withoutCommit = ({ source, destination }: Way): Pick<Way, 'source' | 'destination'> => {
  const off = { commit: 'off' } as const;
  return {
    source: { ...source, ...off, channels: 1 } as Way['source'],
    destination: { ...destination, ...off },
  };
};

describe.each(WAYS.map((each) => [each.name, each] as const))('with %s, and no commit', (_, way) => {
  it('an orderly end is believed', async () => {
    await using vm = await SecretVm.create(PAGES);
    const { source, destination } = await attack(vm, withoutCommit(way), () => undefined);
    expect([codeOf(source), codeOf(destination)]).toEqual(['unconfirmed', 'unconfirmed']);
  });

  it.concurrent.each(['source', 'destination'] as const)(
    'a connection that ends without close_notify was cut, towards the %s',
    async (towards) => {
      await using vm = await SecretVm.create(PAGES);
      let left = 0;
      const cut = (): Passing =>
        byUnits((unit) => {
          if (partOf(unit) !== 'end') return unit.bytes;
          left += 1;
          return { bytes: Buffer.alloc(0), ending: 'end' };
        });
      const { source, destination } = await attack(vm, withoutCommit(way), on(towards, cut));
      expect(left).toBe(1);
      const cutOff = towards === 'source' ? source : destination;
      expect(['CONNECTION_LOST', 'COMMIT_UNKNOWN'], codeOf(cutOff)).toContain(codeOf(cutOff));
    },
  );
});
