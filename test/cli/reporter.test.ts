import { pino } from 'pino';
import { describe, expect, it } from 'vitest';
import { formatBytes, formatDuration, printable } from '../../lib/cli/format.ts';
import { imageProgress } from '../../lib/cli/image-view.ts';
import { JsonReporter } from '../../lib/cli/json-reporter.ts';
import { createLogger } from '../../lib/cli/log.ts';
import { migrationBar } from '../../lib/cli/migration-view.ts';
import { barFields, drawsBars, ProgressBar } from '../../lib/cli/progress-bar.ts';
import type { BarState, Reporter } from '../../lib/cli/reporter.ts';
import { TextReporter } from '../../lib/cli/text-reporter.ts';
import { MigrationError } from '../../lib/errors.ts';
import type { MigrationProgress } from '../../lib/migration/progress.ts';

const silent = pino({ level: 'silent' });
const failure = new MigrationError('OUT_OF_MEMORY', 'setup', 'too much\u001b[2J\nfor it', {
  details: { needed: 1n << 60n, block: 'pc.ram' },
});

const PROGRESS: MigrationProgress = {
  status: 'active',
  phase: 'ram',
  'total-time': 3_000,
  'setup-time': 1_000,
  percentage: 25,
  eta: 6_000,
  channels: 1,
  ram: {
    transferred: 600,
    remaining: 3000,
    total: 4000,
    duplicate: 0,
    skipped: 0,
    normal: 0,
    'normal-bytes': 500,
    mbps: 8,
    'dirty-sync-count': 1,
    'page-size': 4096,
    'dirty-pages-rate': 0,
    'dirty-bytes-rate': 0,
  },
};

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

describe('the progress bar', () => {
  it('shows what is done, the rate on the wire and the time left', () => {
    const bar = migrationBar(PROGRESS);
    expect(bar).toEqual({ phase: 'ram', done: 1000, total: 4000, bytesPerSecond: 1e6, secondsLeft: 6 });
    expect(barFields(bar)).toMatchObject({
      done: '1000 bytes',
      size: '3.9 KiB',
      rate: '976.6 KiB/s',
      left: '6.00 s left',
    });
  });

  it('promises no time where none can be told', () => {
    const { eta: _, ...unknown } = PROGRESS;
    expect(barFields(migrationBar(unknown)).left).toBe('');
  });

  it('is drawn on a terminal, keeps lines above it, and is gone at the end', () => {
    const written: string[] = [];
    const terminal = fakeTerminal(written);
    const bar = new ProgressBar(terminal);
    const state: BarState = migrationBar(PROGRESS);
    bar.update({ ...state, total: 0 });
    expect(written).toEqual([]);
    bar.update(state);
    expect(written.join('')).toMatch(/ram .*25%.*1000 bytes \/ 3\.9 KiB/);
    bar.print('a notice');
    expect(written.slice(-2)).toEqual(['\r\u001b[K', 'a notice\n']);
    bar.update({ ...state, done: 2000 });
    expect(written.join('')).toMatch(/a notice\n.*50%/);
    bar.stop();
    expect(written.at(-1)).toBe('\r\u001b[K');
  });
});

describe('the width of a terminal', () => {
  const widest: BarState = {
    phase: 'device-state',
    done: 1023.9 * 1024 * 1024,
    total: 1023.9 * 1024 * 1024,
    bytesPerSecond: 1023.9 * 1024 * 1024,
    secondsLeft: 3599,
  };
  /** What stands on the line, without what the terminal obeys. */
  const drawn = (columns: number): string => {
    const written: string[] = [];
    const bar = new ProgressBar(fakeTerminal(written, columns));
    bar.update(widest);
    bar.stop();
    // biome-ignore lint/suspicious/noControlCharactersInRegex: escape codes are what is left out
    return written.join('').replace(/\u001b(\[[?\d]*[A-Za-z]|[78])|\r|\n/g, '');
  };

  it.each([20, 30, 40, 60, 80, 101, 102, 120, 200])('of %i columns is not exceeded', (columns) => {
    const line = drawn(columns);
    expect(line).toContain('device-state');
    expect(line).toContain('100%');
    expect(line.length).toBeLessThan(columns);
  });

  it('decides what is shown: the time left before sizes, rate and bar', () => {
    expect(drawn(40)).toMatch(/^device-state 100% {2}59 min 59 s left$/);
    expect(drawn(80)).toMatch(/^device-state 100% {2}1023\.9 MiB \/ 1023\.9 MiB {2}1023\.9 MiB\/s {2}59 min/);
    expect(drawn(120)).toMatch(/^device-state \[.{24}\] 100% .*left$/);
  });

  it('may change while the bar is drawn', () => {
    const written: string[] = [];
    const terminal = fakeTerminal(written, 120);
    const bar = new ProgressBar(terminal);
    bar.update(widest);
    Object.assign(terminal, { columns: 40 });
    written.length = 0;
    bar.update(widest);
    bar.stop();
    expect(written.join('')).not.toContain('MiB');
  });
});

it('a dumb terminal, and none, get no bar', () => {
  const terminal = fakeTerminal([]);
  expect(drawsBars(terminal, { TERM: 'dumb' })).toBe(false);
  expect(drawsBars(terminal, { TERM: 'xterm' })).toBe(true);
  expect(drawsBars(terminal, {})).toBe(true);
  expect(drawsBars({} as NodeJS.WriteStream, { TERM: 'xterm' })).toBe(false);
});

/** As much of a terminal as the bar uses. */
function fakeTerminal(written: string[], columns = 120): NodeJS.WriteStream {
  const nothing = () => true;
  return {
    isTTY: true,
    columns,
    write: (chunk: string) => written.push(chunk) > 0,
    cursorTo: nothing,
    moveCursor: nothing,
    clearLine: nothing,
    on: nothing,
    getWindowSize: () => [columns, 40],
  } as unknown as NodeJS.WriteStream;
}

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
