/** The judge of attacked migrations: what it calls a breach, and what it lets pass. */
import { describe, expect, it } from 'vitest';
import { type ErrorCode, MigrationError } from '../../../lib/errors.ts';
import type { MigrationResult } from '../../../lib/index.ts';
import type { Outcome } from './attack.ts';
import { judge, type Strike } from './judge.ts';

const COMMITTED = { outcome: 'committed' } as MigrationResult;
const UNCONFIRMED = { outcome: 'unconfirmed' } as MigrationResult;
const failed = (code: ErrorCode, peerCode?: string): MigrationError =>
  new MigrationError(code, 'ram', 'a test', peerCode === undefined ? {} : { details: { peerCode } });
const BROKEN = failed('INTEGRITY_ERROR');
const UNKNOWN = failed('COMMIT_UNKNOWN');

const ended = (change: Partial<Outcome>): Outcome => ({
  source: BROKEN,
  destination: BROKEN,
  arrived: false,
  untouched: true,
  conversations: [],
  notices: [],
  ...change,
});
const at = (part: Strike['part'], connection = 0): Strike => ({
  connection,
  towards: 'destination',
  part,
  offset: 7,
});
const both = { source: COMMITTED, destination: COMMITTED, arrived: true };

describe('the judge calls a breach', () => {
  it.each<[string, Partial<Outcome>, Strike | undefined]>([
    ['RAM of the source that has changed', { untouched: false }, at('ram')],
    ['other RAM at a destination that has completed', { ...both, arrived: false }, at('setup')],
    ['a changed record that was taken', both, at('ram')],
    ['a source that completes alone', { source: COMMITTED }, at('setup')],
    ['two owners', { destination: COMMITTED, arrived: true }, at('messages')],
    ['a doubt before anything was sent', { source: UNKNOWN }, at('handshake')],
    ['a doubt that nobody caused', { source: UNKNOWN }, undefined],
    ['a failure that nobody caused', {}, undefined],
    ['a bug', { source: failed('INTERNAL') }, at('ram')],
    ['a bug of which the peer tells', { source: failed('PEER_ERROR', 'INTERNAL') }, at('ram')],
    ['a commit without an answer', { ...both, source: UNCONFIRMED }, at('end')],
    ['a doubt at the destination', { destination: UNKNOWN }, at('messages')],
  ])('%s', (_, change, strike) => expect(judge(ended(change), strike)).not.toEqual([]));
});

describe('the judge lets pass', () => {
  it.each<[string, Partial<Outcome>, Strike | undefined]>([
    ['a migration that nobody harmed', both, undefined],
    ['a failure of both', {}, at('ram')],
    ['a destination that waited on', { ...both, source: BROKEN, next: COMMITTED }, at('handshake')],
    [
      'a doubt after the last message',
      { source: UNKNOWN, destination: COMMITTED, arrived: true },
      at('messages'),
    ],
    ['a byte that means nothing', both, at('setup')],
    ['a rail that was left out', both, at('ram', 1)],
    ['a reason that the peer has told', { source: failed('PEER_ERROR', 'INTEGRITY_ERROR') }, at('ram')],
  ])('%s', (_, change, strike) => expect(judge(ended(change), strike)).toEqual([]));
});
