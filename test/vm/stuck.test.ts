import { describe, expect, it } from 'vitest';
import { isIdStuck } from './stuck.ts';

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
