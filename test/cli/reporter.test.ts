import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { formatBytes, formatDuration, printable } from '../../lib/cli/format.ts';
import { imageProgress } from '../../lib/cli/image-view.ts';
import { JsonReporter } from '../../lib/cli/json-reporter.ts';
import { createLogger } from '../../lib/cli/log.ts';
import type { BarState, Reporter } from '../../lib/cli/reporter.ts';
import { TextReporter } from '../../lib/cli/text-reporter.ts';
import { MigrationError } from '../../lib/errors.ts';

const silent = pino({ level: 'silent' });
const failure = new MigrationError('OUT_OF_MEMORY', 'setup', 'too much\u001b[2J\nfor it', {
  details: { needed: 1n << 60n, block: 'pc.ram' },
});

describe('lines of JSON', () => {
  it('have 64-bit integers as strings and everything on one line', () => {
    const lines: string[] = [];
    const reporter = new JsonReporter((line) => lines.push(line), silent);
    reporter.failed({ error: failure, exitCode: 7, left: 'nothing was kept' });
    expect(lines).toHaveLength(1);
    expect(lines[0]).not.toContain('\n');
    expect(JSON.parse(lines[0] ?? '')).toEqual({
      event: 'error',
      code: 'OUT_OF_MEMORY',
      phase: 'setup',
      message: 'too much\u001b[2J\nfor it',
      details: { needed: '1152921504606846976', block: 'pc.ram' },
      'exit-code': 7,
      left: 'nothing was kept',
    });
  });
});

describe('text', () => {
  function text(quiet = false): { reporter: Reporter; out: string[]; err: string[] } {
    const out: string[] = [];
    const err: string[] = [];
    const log = createLogger({ quiet, verbose: false, format: 'text' }, (line) => err.push(line));
    const parts = { out: (line: string) => out.push(line), err: (line: string) => err.push(line) };
    return { reporter: new TextReporter({ ...parts, log, bar: undefined, quiet }), out, err };
  }

  it('of an error has code and phase, and nothing that a terminal obeys', () => {
    const { reporter, err } = text(true);
    reporter.failed({ error: failure, exitCode: 7, left: 'nothing was kept' });
    expect(err).toEqual([
      'rdma-migrate: too much?[2J for it (OUT_OF_MEMORY, phase setup)',
      'rdma-migrate: nothing was kept',
    ]);
  });

  it('has notices but no details, and with --quiet only the address', () => {
    for (const [quiet, notices] of [
      [false, ['rdma-migrate: refused a peer']],
      [true, []],
    ] as const) {
      const { reporter, out, err } = text(quiet);
      reporter.listening('rdma:h:1');
      reporter.phase('ram');
      reporter.notice('refused a peer');
      reporter.debug('detail');
      expect([out, err]).toEqual([['listening at rdma:h:1'], notices]);
    }
  });
});

describe('the progress of a conversion', () => {
  it('is told at each phase and twice a second', () => {
    const told: string[] = [];
    let now = 0;
    const reporter = {
      phase: (phase: string) => told.push(phase),
      progress: (_fields: object, bar: BarState) =>
        told.push(`${bar.done} at ${Math.round(bar.bytesPerSecond)}/s`),
    } as unknown as Reporter;
    const report = imageProgress(reporter, () => now);
    const at = (time: number, phase: 'setup' | 'ram', done: bigint, total: bigint): void => {
      now = time;
      report({ phase, done, total, streamBytes: 0n });
    };
    at(0, 'setup', 0n, 0n);
    at(100, 'ram', 100n, 1000n);
    at(400, 'ram', 200n, 1000n);
    at(700, 'ram', 350n, 1000n);
    expect(told).toEqual(['setup', 'ram', '100 at 1000/s', '350 at 500/s']);
  });
});

describe('numbers for people', () => {
  it('have units', () => {
    expect([0, 1, 1023, 1024, 1536 << 20].map(formatBytes)).toEqual([
      '0 bytes',
      '1 byte',
      '1023 bytes',
      '1.0 KiB',
      '1.5 GiB',
    ]);
    expect(formatBytes((1n << 20n) - 1n)).toBe('1.0 MiB');
    expect([350, 12_400, 200_000, 7_500_000].map(formatDuration)).toEqual([
      '0.35 s',
      '12.4 s',
      '3 min 20 s',
      '2 h 05 min',
    ]);
  });

  it('and text without control characters', () => {
    expect(printable('a\r\n  b\u0007\u009b')).toBe('a b??');
  });
});
