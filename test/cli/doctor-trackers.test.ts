import { expect, it } from 'vitest';
import { checkTrackers } from '../../lib/doctor/trackers.ts';

const all = { writeProtect: 'async', writeProtectProblem: '', softDirty: true } as const;

it('is content with asynchronous write-protection', () => {
  expect(checkTrackers(all)).toMatchObject({
    status: 'ok',
    found: 'write-protect (asynchronous), soft-dirty, bitmap, hash',
    essential: false,
  });
});

it('says what a fault thread costs', () => {
  expect(checkTrackers({ ...all, writeProtect: 'fault-thread' })).toMatchObject({
    status: 'warning',
    remedy: expect.stringContaining('6.7'),
  });
});

it('says what is left where memory cannot be protected, and why', () => {
  const check = checkTrackers({ writeProtect: null, writeProtectProblem: 'seccomp', softDirty: false });
  expect(check).toMatchObject({ status: 'warning', details: { 'soft-dirty': false } });
  expect(check.found).toMatch(/^bitmap, hash; .*seccomp/);
});
