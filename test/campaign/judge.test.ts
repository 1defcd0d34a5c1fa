/** The campaign's judge: what it calls a lie, and what it only counts. */
import { describe, expect, it } from 'vitest';
import { type Case, caseOf } from './case.ts';
import type { Said } from './command.ts';
import { judge, type There } from './judge.ts';

const CASE: Case = {
  seed: 1,
  pair: 'ours',
  commit: true,
  crc: true,
  verify: false,
  pinAll: false,
  bandwidth: 0,
  fault: { kind: 'cut', towards: 'source', at: { beforeEnd: 10 } },
};
const said = (change: Partial<Said>): Said => ({
  exit: 3,
  signal: null,
  hung: false,
  outcome: undefined,
  code: 'CONNECTION_LOST',
  message: '',
  ...change,
});
const COMMITTED = said({ exit: 0, outcome: 'committed', code: undefined });
const UNCONFIRMED = said({ exit: 0, outcome: 'unconfirmed', code: undefined });
const UNKNOWN = said({ exit: 8, code: 'COMMIT_UNKNOWN' });
const FAILED = said({});
const there = (image: There['image'], change: Partial<There> = {}): There => ({
  image,
  partial: false,
  sourceUntouched: true,
  ...change,
});
const lies = (...args: Parameters<typeof judge>): readonly string[] => judge(...args).lies;

describe('the judge calls a lie', () => {
  it.each([
    ['committed, and nothing is there', COMMITTED, FAILED, there('none')],
    ['two owners', FAILED, COMMITTED, there('whole')],
    ['completed without an image', UNKNOWN, COMMITTED, there('none')],
    ['another image than was sent', COMMITTED, COMMITTED, there('different')],
    ['something left by a failure', FAILED, FAILED, there('none', { partial: true })],
    ['a source that was written to', FAILED, FAILED, there('none', { sourceUntouched: false })],
    ['unconfirmed after a cut', UNCONFIRMED, FAILED, there('none')],
    ['a bug', said({ exit: 1, code: 'INTERNAL' }), FAILED, there('none')],
    ['a crash', said({ exit: null, signal: 'SIGSEGV' }), FAILED, there('none')],
    ['a hang', said({ exit: null, signal: 'SIGKILL', hung: true }), FAILED, there('none')],
  ] as const)('%s', (_, source, destination, left) =>
    expect(lies(CASE, source, destination, left)).not.toEqual([]),
  );

  it('COMMIT_UNKNOWN on a healthy link', () =>
    expect(lies({ ...CASE, fault: { kind: 'none' } }, UNKNOWN, COMMITTED, there('whole'))).not.toEqual([]));
});

describe('the judge believes', () => {
  it.each([
    ['a migration that has been committed', COMMITTED, COMMITTED, there('whole')],
    ['a failure of both with nothing there', FAILED, FAILED, there('none')],
    ['COMMIT_UNKNOWN with the VM there', UNKNOWN, COMMITTED, there('whole')],
    ['COMMIT_UNKNOWN without it', UNKNOWN, FAILED, there('none')],
  ] as const)('%s', (_, source, destination, left) =>
    expect(lies(CASE, source, destination, left)).toEqual([]),
  );

  it('damage on the wire that no end was asked to look for, and counts it', () => {
    const flipped: Case = {
      ...CASE,
      crc: false,
      fault: { kind: 'flipped', towards: 'destination', at: { share: 0.5 } },
    };
    const { lies, counted } = judge(flipped, COMMITTED, COMMITTED, there('different'));
    expect([lies, counted.length]).toEqual([[], 1]);
  });

  it('a kill that leaves a partial image', () => {
    const killed: Case = {
      ...CASE,
      fault: { kind: 'SIGKILL', end: 'destination', phase: 'ram', after: 1, lasting: 0 },
    };
    const dead = said({ exit: null, signal: 'SIGKILL' });
    expect(lies(killed, FAILED, dead, there('none', { partial: true }))).toEqual([]);
  });
});

it('a seed is one case, every time', () => {
  for (let seed = 0; seed < 50; seed++) expect(caseOf(seed)).toEqual(caseOf(seed));
  expect(new Set(Array.from({ length: 50 }, (_, seed) => JSON.stringify(caseOf(seed)))).size).toBe(50);
});
