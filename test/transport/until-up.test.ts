/** Trying again while a peer is not up yet. */
import { describe, expect, it } from 'vitest';
import { MigrationError } from '../../lib/errors.ts';
import { untilUp } from '../../lib/transport/until-up.ts';

const refused = () => new MigrationError('CONNECTION_REFUSED', 'connect', 'nothing listens');
const unknown = () => new MigrationError('ADDRESS_NOT_FOUND', 'connect', 'no such name');

/** Fails as listed, then resolves. */
function script(...failures: readonly MigrationError[]) {
  const left = [...failures];
  const calls = { count: 0 };
  const attempt = async (): Promise<string> => {
    calls.count++;
    const failure = left.shift();
    if (failure) throw failure;
    return 'up';
  };
  return { attempt, calls };
}

const LONG = 60_000;
const mayRepeat = (): boolean => true;

describe('a peer that is not up', () => {
  it('is tried until it is, and each reason is told once', async () => {
    const { attempt, calls } = script(unknown(), refused(), refused());
    const told: string[] = [];
    const onWaiting = ({ code }: MigrationError, leftMs: number): void => {
      expect(leftMs).toBeGreaterThan(0);
      told.push(code);
    };
    expect(await untilUp(attempt, { waitMs: LONG, mayRepeat, onWaiting })).toBe('up');
    expect([calls.count, told]).toEqual([4, ['ADDRESS_NOT_FOUND', 'CONNECTION_REFUSED']]);
  });

  it('is tried once where nobody waits, and the error is its own', async () => {
    const error = refused();
    const { attempt, calls } = script(error);
    await expect(untilUp(attempt, { waitMs: 0, mayRepeat, onWaiting: () => {} })).rejects.toBe(error);
    expect(calls.count).toBe(1);
  });

  it('is given up when the time is over, and the error says so', async () => {
    const always = async (): Promise<never> => {
      throw refused();
    };
    await expect(untilUp(always, { waitMs: 150, mayRepeat, onWaiting: () => {} })).rejects.toMatchObject({
      code: 'CONNECTION_REFUSED',
      message: 'nothing listens (after 0.15 s of trying)',
      details: { waitMs: 150 },
    });
  });

  it('is not waited for when it has refused, or failed in another way', async () => {
    const error = new MigrationError('REJECTED', 'connect', 'busy');
    const { attempt, calls } = script(refused(), error);
    await expect(untilUp(attempt, { waitMs: LONG, mayRepeat, onWaiting: () => {} })).rejects.toBe(error);
    expect(calls.count).toBe(2);
  });

  it('is not asked again for what must not happen twice', async () => {
    const error = refused();
    const { attempt, calls } = script(error);
    const limits = { waitMs: LONG, mayRepeat: (why: MigrationError) => why !== error, onWaiting: () => {} };
    await expect(untilUp(attempt, limits)).rejects.toBe(error);
    expect(calls.count).toBe(1);
  });

  it('is given up at once by an abort, between two tries', async () => {
    const abort = new AbortController();
    const { attempt } = script(refused(), ...Array.from({ length: 1000 }, refused));
    const onWaiting = (): void => abort.abort();
    await expect(
      untilUp(attempt, { waitMs: LONG, signal: abort.signal, mayRepeat, onWaiting }),
    ).rejects.toMatchObject({
      code: 'CANCELLED',
      phase: 'connect',
    });
  });
});
