import { describe, expect, it } from 'vitest';
import { isIdStuck } from './stuck.ts';
import { exitCodeOf, SUITES, suitesToRepeat } from './suites.ts';

const complaint = (id: string, at: number) =>
  `[${at}.636812] cm_destroy_id_wait_timeout: cm_id=${id} timed out. state 11 -> 0, refcnt=1`;

describe('an rdma_cm id that the kernel cannot destroy', () => {
  it('is one that the kernel complains of for a minute', () => {
    const log = [10, 20, 30, 40, 50, 60].map((at) => complaint('000000009534416c', at));
    expect(isIdStuck(log.join('\n'))).toBe(true);
    expect(isIdStuck(log.slice(1).join('\n'))).toBe(false);
  });

  it('is not one of many that were slow', () => {
    const log = [1, 2, 3, 4, 5, 6, 7, 8].map((id) => complaint(`00000000${id}`, id));
    expect(isIdStuck(log.join('\n'))).toBe(false);
  });

  it('is not what other modules say', () => {
    expect(isIdStuck('[ 1.0] infiniband rxe0: set active\n'.repeat(20))).toBe(false);
  });
});

describe('what a new VM runs again', () => {
  const again = (...outcomes: Parameters<typeof exitCodeOf>[0]) =>
    suitesToRepeat(exitCodeOf(outcomes), SUITES);

  it('is the stuck suite and those after it', () => {
    expect(again('id-stuck')).toEqual(SUITES);
    expect(again('passed', 'passed', 'id-stuck')).toEqual(SUITES.slice(2));
  });

  it('is nothing where a suite failed before: the failure counts', () => {
    expect(exitCodeOf(['failed', 'id-stuck'])).toBe(1);
    expect(again('failed', 'id-stuck')).toEqual([]);
  });

  it('is nothing when all passed, one failed or was late, or the command could not be started', () => {
    expect(exitCodeOf(['passed', 'passed'])).toBe(0);
    expect(exitCodeOf(['passed', 'late'])).toBe(1);
    for (const code of [0, 1, 126, 127]) expect(suitesToRepeat(code, SUITES)).toEqual([]);
  });
});
