/** What is drawn of work that goes on: never wider or longer than the terminal, and gone when it is over. */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { migrationBar } from '../../lib/cli/migration-view.ts';
import { progressLine, progressLines } from '../../lib/cli/progress-lines.ts';
import { drawsBars, ProgressArea, ProgressLog } from '../../lib/cli/progress-view.ts';
import type { BarState, LiveBar } from '../../lib/cli/reporter.ts';
import type { MigrationProgress } from '../../lib/migration/progress.ts';

const PROGRESS: MigrationProgress = {
  status: 'active',
  phase: 'ram',
  'total-time': 3_000,
  'setup-time': 1_000,
  percentage: 25,
  resumes: 0,
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

const MIB = 2 ** 20;
const WIDEST: BarState = {
  phase: 'device-state',
  done: 1023.9 * MIB,
  total: 1023.9 * MIB,
  bytesPerSecond: 1023.9 * MIB,
  secondsLeft: 3599,
};
const LIVE: LiveBar = {
  round: 3,
  remaining: 512 * MIB,
  sentBytesPerSecond: 1200 * MIB,
  dirtyBytesPerSecond: 300 * MIB,
  expectedMs: 420,
  allowedMs: 300,
  downtimeMs: undefined,
  throttlePercentage: 0,
  verdict: 'converging',
};
const RUNNING: BarState = {
  phase: 'ram',
  done: 3584 * MIB,
  total: 4096 * MIB,
  bytesPerSecond: 0,
  secondsLeft: 6,
  live: LIVE,
};

describe('a bar', () => {
  it('shows what is done, the rate on the wire and the time left', () => {
    const bar = migrationBar(PROGRESS);
    expect(bar).toEqual({ phase: 'ram', done: 1000, total: 4000, bytesPerSecond: 1e6, secondsLeft: 6 });
    expect(progressLines(bar, 120)).toEqual([
      'ram          [======------------------] 25%  1000 bytes / 3.9 KiB  976.6 KiB/s  6.00 s left',
    ]);
  });

  it('promises no time where none can be told', () => {
    const { eta: _, ...unknown } = PROGRESS;
    expect(progressLines(migrationBar(unknown), 120)[0]).not.toContain('left');
  });

  it('leaves out what has no room: first the bar, then the rate, what is done, the time left', () => {
    const drawn = (columns: number): string => progressLines(WIDEST, columns)[0] as string;
    expect(drawn(40)).toMatch(/^device-state 100% {2}59 min 59 s left$/);
    expect(drawn(80)).toMatch(/^device-state 100% {2}1023\.9 MiB \/ 1023\.9 MiB {2}1023\.9 MiB\/s {2}59 min/);
    expect(drawn(120)).toMatch(/^device-state \[={24}\] 100% .*left$/);
  });
});

describe('of a running guest', () => {
  it('a wide terminal shows rounds, rates and the downtime below the bar', () => {
    expect(progressLines(RUNNING, 100)).toEqual([
      'ram          [=====================---] 87%  6.00 s left',
      'round 3: 512.0 MiB to send   sent 1.2 GiB/s   written 300.0 MiB/s',
      'downtime 0.42 s expected   0.30 s allowed',
    ]);
  });

  it('a narrow one shows the same on more lines', () => {
    expect(progressLines(RUNNING, 40)).toEqual([
      'ram          87%  6.00 s left',
      'round 3: 512.0 MiB to send',
      'sent 1.2 GiB/s   written 300.0 MiB/s',
      'downtime 0.42 s expected',
      '0.30 s allowed',
    ]);
  });

  it('says why it is not stopped, how much it is slowed down, and when it stands still', () => {
    const text = (live: Partial<LiveBar>): string => progressLine({ ...RUNNING, live: { ...LIVE, ...live } });
    expect(text({ verdict: 'dirty-rate', throttlePercentage: 20 })).toMatch(
      /slowed down by 20%, it writes as fast/,
    );
    expect(text({ verdict: 'fixed-costs' })).toContain('0.30 s allowed, that limit cannot be met');
    expect(text({ verdict: undefined, expectedMs: undefined, allowedMs: undefined })).not.toMatch(
      /downtime|allowed/,
    );
    const standing = text({ downtimeMs: 120, verdict: 'dirty-rate' });
    expect(standing).toContain('guest paused for 0.12 s, 0.30 s allowed');
    expect(standing).not.toMatch(/written|expected|it writes/);
  });

  it('comes from the progress of its source, with no downtime before the first round is over', () => {
    const live = {
      'downtime-limit': 300,
      'switchover-bandwidth': 1,
      'cpu-throttle-percentage': 0,
      rounds: [],
    };
    const first = migrationBar({ ...PROGRESS, live: { ...live, 'expected-downtime': 0 } }).live;
    expect(first).toMatchObject({
      round: 1,
      remaining: 3000,
      dirtyBytesPerSecond: undefined,
      expectedMs: undefined,
      allowedMs: undefined,
    });
    const next = { ...live, 'expected-downtime': 42, verdict: 'converged' } as const;
    expect(migrationBar({ ...PROGRESS, live: next }).live).toMatchObject({ expectedMs: 42, allowedMs: 300 });
  });
});

const size = fc.oneof(
  fc.nat(),
  fc.double({ min: 0, max: 2 ** 60, noNaN: true }),
  fc.constant(Number.POSITIVE_INFINITY),
);
const unsure = fc.option(size, { nil: undefined });
const live: fc.Arbitrary<LiveBar> = fc.record({
  round: fc.nat(),
  remaining: size,
  sentBytesPerSecond: size,
  dirtyBytesPerSecond: unsure,
  expectedMs: unsure,
  allowedMs: unsure,
  downtimeMs: unsure,
  throttlePercentage: fc.nat(99),
  verdict: fc.constantFrom(undefined, 'converged', 'converging', 'dirty-rate', 'fixed-costs'),
});
const anyState: fc.Arbitrary<BarState> = fc
  .record({
    phase: fc.constantFrom('connect', 'ram', 'device-state', 'commit'),
    done: size,
    total: size,
    bytesPerSecond: size,
    secondsLeft: unsure,
    live: fc.option(live, { nil: undefined }),
  })
  .map(({ live, ...state }) => ({ ...state, ...(live && { live }) }));

/** As much of a terminal as is used: it wraps lines again when its width changes, and its cursor is where the last line ends. */
class Terminal {
  readonly isTTY = true;
  readonly screen: string[] = [''];
  columns: number;
  rows: number;

  constructor(columns: number, rows = 24) {
    this.columns = columns;
    this.rows = rows;
  }

  get stream(): NodeJS.WriteStream {
    return this as unknown as NodeJS.WriteStream;
  }

  write(text: string): boolean {
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what the terminal obeys
    const [, up, rest] = /^(?:\r\u001b\[(\d+)A\u001b\[J)?([^\r\u001b]*)$/.exec(text) ?? [];
    if (rest === undefined) throw new Error(`not understood: ${JSON.stringify(text)}`);
    if (up !== undefined) this.#erase(Number(up));
    const [first = '', ...lines] = rest.split('\n');
    this.screen[this.screen.length - 1] += first;
    this.screen.push(...lines);
    return true;
  }

  #erase(rows: number): void {
    expect(this.screen.at(-1)).toBe('');
    let left = rows;
    for (let last = this.screen.length - 2; left > 0; last -= 1) {
      left -= Math.max(1, Math.ceil((this.screen[last] ?? '').length / this.columns));
      this.screen.splice(last, 1);
    }
    expect(left).toBe(0);
  }
}

describe('on a terminal', () => {
  it('no line is as wide as the terminal, whatever is shown', () => {
    fc.assert(
      fc.property(anyState, fc.integer({ min: 2, max: 300 }), (state, columns) => {
        const lines = progressLines(state, columns);
        expect(lines.length).toBeGreaterThan(0);
        expect(lines.length).toBeLessThanOrEqual(9);
        for (const line of lines) {
          expect(line.length).toBeLessThan(columns);
          expect(line).toMatch(/^[ -~]*$/);
        }
        expect(progressLine(state)).toMatch(/^[ -~]+$/);
      }),
    );
  });

  it('lines above stay as they are, and nothing else stays, however often the size changes', () => {
    let narrowed = 0;
    const action = fc.oneof(
      fc.record({ state: anyState }),
      fc.record({ columns: fc.integer({ min: 2, max: 120 }), rows: fc.integer({ min: 0, max: 12 }) }),
      fc.record({ line: fc.stringMatching(/^[ -~]{0,200}$/) }),
    );
    fc.assert(
      fc.property(fc.array(action, { maxLength: 30 }), (actions) => {
        const terminal = new Terminal(80);
        const area = new ProgressArea(terminal.stream);
        const printed: string[] = [];
        for (const action of actions) {
          const before = terminal.columns;
          if ('columns' in action) Object.assign(terminal, action);
          if ('columns' in action && action.columns < before && terminal.screen.length > printed.length + 1)
            narrowed += 1;
          if ('line' in action) area.print(action.line);
          if ('line' in action) printed.push(action.line);
          if ('state' in action) {
            area.update(action.state);
            const height = terminal.screen.length - printed.length - 1;
            // Without a total nothing is drawn, and what was drawn before the size changed stays.
            if (action.state.total > 0)
              expect(height).toBeLessThanOrEqual(Math.max(1, (terminal.rows || 99) - 1));
          }
          expect(terminal.screen.slice(0, printed.length)).toEqual(printed);
        }
        area.stop();
        expect(terminal.screen).toEqual([...printed, '']);
      }),
    );
    expect(narrowed).toBeGreaterThan(0);
  });

  it('nothing is drawn before the total is known, and a stop without anything drawn is silent', () => {
    const terminal = new Terminal(80);
    const area = new ProgressArea(terminal.stream);
    area.update({ ...WIDEST, total: 0 });
    area.stop();
    expect(terminal.screen).toEqual(['']);
  });

  it('that is dumb, and where there is none, no bar is drawn', () => {
    const { stream } = new Terminal(80);
    expect(drawsBars(stream, { TERM: 'dumb' })).toBe(false);
    expect(drawsBars(stream, { TERM: 'xterm' })).toBe(true);
    expect(drawsBars(stream, {})).toBe(true);
    expect(drawsBars({} as NodeJS.WriteStream, { TERM: 'xterm' })).toBe(false);
  });
});

it('without a terminal there is a line every half minute', () => {
  const lines: string[] = [];
  let now = 5_000;
  const log = new ProgressLog(
    (line) => lines.push(line),
    () => now,
  );
  for (; now < 66_000; now += 500) log.update(RUNNING);
  expect(lines).toEqual(
    Array(2).fill(
      'rdma-migrate: ram 87%, round 3: 512.0 MiB to send, sent 1.2 GiB/s, written 300.0 MiB/s, downtime 0.42 s expected, 0.30 s allowed, 6.00 s left',
    ),
  );
});
