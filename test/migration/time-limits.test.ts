/** Which limit holds for which wait. */
import { describe, expect, it } from 'vitest';
import { connectionOptions } from '../../lib/migration/options.ts';

describe('the wait for a connection', () => {
  it.each([
    ['is ten seconds', {}, 10_000],
    ['is not longer than that for a patient end', { responseTimeoutMs: 600_000 }, 10_000],
    ['is no longer than the wait for an answer', { responseTimeoutMs: 700 }, 700],
    ['is what was asked for', { responseTimeoutMs: 700, connectTimeoutMs: 5_000 }, 5_000],
  ])('%s', (_, options, expected) => {
    expect(connectionOptions(options).connectTimeoutMs).toBe(expected);
  });
});
