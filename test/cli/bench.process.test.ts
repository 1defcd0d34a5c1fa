/** rdma-migrate bench, as one process and as two. */
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type BenchResult, benchResultSchema } from '../../lib/bench/result.ts';
import { buildCommand, type CommandFolder, type Event, eventsOf } from './command.ts';

let command: CommandFolder;
beforeAll(async () => {
  command = await buildCommand();
});
afterAll(() => command[Symbol.asyncDispose]());

const SMALL = ['--sizes', '4K,64K', '--depth', '8', '--rounds', '2', '--bytes', '1M', '--ram', '16M'];
const resultOf = (stdout: string): BenchResult =>
  benchResultSchema.parse(eventsOf(stdout).find(({ event }) => event === 'result'));

/** The nth event whose message is like that: for waitForEvent, which looks from the first one each time. */
function nth(count: number, pattern: RegExp): (event: Event) => boolean {
  const seen = new Set<unknown>();
  return (event) => {
    if (pattern.test(String(event.message))) seen.add(event.message);
    return seen.size >= count;
  };
}

describe('bench', () => {
  it('measures everything between two processes of this machine, and draws it', async () => {
    const plots = ['all.svg', 'all.png'].map((name) => join(command.work, name)) as [string, string];
    const crcOn = ['--crc', 'on', '--sizes', '64K', '--pin-all', 'on'];
    const given = [...SMALL, ...crcOn, '--dirty-rate', '0,1M', '--zero', '50', '--json'];
    const ended = await command.run('bench', ...given, '--plot', plots[0], '--plot', plots[1]);
    expect([ended.code, ended.stderr.replace(/rdma-migrate: round .*\n/g, '')]).toEqual([0, '']);
    const { points, ...result } = resultOf(ended.stdout);
    expect(result).toMatchObject({
      complete: true,
      settings: { rounds: 2, bytes: 1 << 20, local: true },
      provider: { name: 'iwarp' },
    });
    expect(points.map(({ kind }) => kind).join()).toMatch(/^(throughput,){3}(latency,){3}(migration,?){2}$/);
    for (const point of points) {
      expect(point.rounds).toBe(2);
      expect(point.cpuSecondsPerGib?.here.median).toBeGreaterThan(0);
      expect(point.cpuSecondsPerGib?.there.median).toBeGreaterThan(0);
      if (point.kind === 'latency') {
        const { p50, p99, p999 } = point.microseconds ?? {};
        expect(p50?.min).toBeGreaterThan(0);
        expect(p99?.median).toBeGreaterThanOrEqual(p50?.median ?? Number.NaN);
        expect(p999?.median).toBeGreaterThanOrEqual(p99?.median ?? Number.NaN);
        expect(point.messages).toBeGreaterThanOrEqual((2 << 20) / point.messageBytes);
      } else {
        const { min, median, max } = point.bytesPerSecond ?? { min: Number.NaN, median: 0, max: 0 };
        expect(min).toBeGreaterThan(0);
        expect(median).toBeGreaterThanOrEqual(min);
        expect(max).toBeGreaterThanOrEqual(median);
      }
      if (point.kind === 'migration') {
        const { min = 0 } = point.downtimeSeconds ?? {};
        expect(min > 0).toBe(point.dirtyRate > 0);
      }
    }
    const svg = await readFile(plots[0], 'utf8');
    expect(svg).toContain('Throughput (GiB/s)');
    expect(svg).not.toMatch(/NaN|undefined/);
    expect((await readFile(plots[1])).subarray(1, 4).toString()).toBe('PNG');
  });

  it('prints a table with heads, and shows and draws a result again', async () => {
    const first = await command.run('bench', ...SMALL, '--measure', 'write,latency', '--json');
    const file = join(command.work, 'result.json');
    await writeFile(file, first.stdout);
    const plot = join(command.work, 'again.svg');
    const again = await command.run('bench', '--from', file, '--plot', plot);
    expect([again.code, again.stderr]).toEqual([0, '']);
    expect(again.stdout).toMatch(
      /Throughput\nwhat +size +depth +QPs +CRC +median.*\n +GiB\/s.*\nWRITE +4 KiB +8 +1 /,
    );
    expect(again.stdout).toMatch(/Latency.*\n.*p50.*p99.*p99\.9.*\n.*us/);
    expect(again.stdout).toContain(`drawn: ${plot}\n`);
    const live = await command.run('bench', ...SMALL, '--measure', 'write');
    expect(live.stdout).toMatch(/^provider iwarp: .*\nboth ends here: .*\n\nThroughput\n/);
    expect(live.stdout.match(/^WRITE/gm)).toHaveLength(2);
    expect(live.stderr).toMatch(/^rdma-migrate: round 1, 1 of 4: WRITE 4 KiB\n/);
  });

  it('measures between two commands, one client after the other', async () => {
    const server = command.start('bench', '--listen', 'rdma:127.0.0.1:0', '--json');
    const { uri } = await server.waitForEvent('listening');
    for (const queuePairs of ['1', '3']) {
      const given = [
        '--measure',
        'write,read,send,migration',
        '--queue-pairs',
        queuePairs,
        '--channels',
        '2',
      ];
      const ended = await command.run('bench', String(uri), ...SMALL, ...given, '--json');
      expect(ended.code).toBe(0);
      const { settings, points } = resultOf(ended.stdout);
      expect(settings.local).toBe(false);
      expect(points.every(({ rounds }) => rounds === 2)).toBe(true);
    }
    server.kill('SIGINT');
    const end = await server.ended;
    expect(end.code).toBe(130);
    const notices = eventsOf(end.stdout).filter(({ event }) => event === 'notice');
    expect(notices.filter(({ message }) => /has left$/.test(String(message)))).toHaveLength(2);
  });

  it('serves the next client when one was killed while it measured', async () => {
    const server = command.start('bench', '--listen', 'rdma:127.0.0.1:0', '--json');
    const { uri } = await server.waitForEvent('listening');
    let left = 0;
    for (const operation of ['write', 'read', 'send', 'latency', 'migration']) {
      const given = [
        '--measure',
        operation,
        '--sizes',
        '64K',
        '--seconds',
        '5',
        '--ram',
        '512M',
        '--verbose',
      ];
      const running = command.start('bench', String(uri), ...given);
      await running.waitForMessage(/round 1, 1 of/);
      await new Promise((resolve) => setTimeout(resolve, 300)); // somewhere in the middle
      running.kill('SIGKILL');
      await running.ended;
      left += 1;
      await server.waitForEvent('notice', nth(left, / has left/));
    }
    const ended = await command.run('bench', String(uri), ...SMALL, '--measure', 'write');
    expect([ended.code, ended.stdout]).toEqual([0, expect.stringContaining('WRITE')]);
    server.kill('SIGINT');
    expect((await server.ended).code).toBe(130);
  });

  it('ends with --once when its client has left', async () => {
    const server = command.start('bench', '--listen', 'rdma:[::1]:0', '--once');
    const [, uri = ''] = await server.waitForOutput(/^listening at (\S+)\n/);
    expect((await command.run('bench', uri, ...SMALL, '--measure', 'send,migration')).code).toBe(0);
    expect((await server.ended).code).toBe(0);
  });

  it('shows at Ctrl-C what was measured until then', async () => {
    const given = ['--measure', 'write', '--sizes', '4K,8K', '--rounds', '1000', '--seconds', '0.05'];
    const plot = join(command.work, 'partial.svg');
    const running = command.start('bench', ...given, '--plot', plot, '--json', '--verbose');
    await running.waitForMessage(/measured: WRITE/);
    running.kill('SIGINT');
    const { code, stdout } = await running.ended;
    expect(code).toBe(130);
    const result = resultOf(stdout);
    expect(result.complete).toBe(false);
    expect(result.points[0]?.rounds).toBeGreaterThan(0);
    expect(eventsOf(stdout).at(-1)).toMatchObject({ event: 'error', code: 'CANCELLED', 'exit-code': 130 });
    expect((await stat(plot)).size).toBeGreaterThan(1_000);
  });

  it('says when the other end goes away, and shows what was measured', async () => {
    const server = command.start('bench', '--listen', 'rdma:127.0.0.1:0');
    const [, uri = ''] = await server.waitForOutput(/^listening at (\S+)\n/);
    const given = ['--measure', 'write', '--sizes', '4K', '--rounds', '1000', '--seconds', '0.05'];
    const running = command.start('bench', uri, ...given, '--json', '--verbose');
    await running.waitForMessage(/measured: WRITE/);
    server.kill('SIGKILL');
    const { code, stdout } = await running.ended;
    expect(code).toBe(3);
    expect(resultOf(stdout).points[0]?.rounds).toBeGreaterThan(0);
  });

  it.each(['write', 'latency'])(
    'says the same when the other end was stopped in good order: %s',
    async (what) => {
      const server = command.start('bench', '--listen', 'rdma:127.0.0.1:0');
      const [, uri = ''] = await server.waitForOutput(/^listening at (\S+)\n/);
      const given = ['--measure', what, '--sizes', '4K', '--rounds', '1000', '--seconds', '0.5'];
      const running = command.start('bench', uri, ...given, '--json', '--verbose');
      await running.waitForMessage(/measured: /);
      await new Promise((resolve) => setTimeout(resolve, 200)); // into a round: between two it would be rejected
      server.kill('SIGINT');
      const { code, stdout } = await running.ended;
      expect(eventsOf(stdout).at(-1)).toMatchObject({
        event: 'error',
        code: expect.stringMatching(/^CONNECTION_(CLOSED|LOST)$/),
      });
      expect(code).toBe(3);
    },
  );

  it('refuses a VM that is larger than the listening end gives', async () => {
    const server = command.start('bench', '--listen', 'rdma:127.0.0.1:0', '--max-ram', '8M');
    const [, uri = ''] = await server.waitForOutput(/^listening at (\S+)\n/);
    const { code, stderr } = await command.run('bench', uri, ...SMALL, '--measure', 'migration');
    expect([code, stderr]).toEqual([4, expect.stringMatching(/16777216 bytes .* 8388608 bytes/)]);
    server.kill('SIGINT');
    await server.ended;
  });

  it('shows a result of others without what controls a terminal', async () => {
    const first = await command.run('bench', ...SMALL, '--measure', 'write', '--json');
    const { event: _, ...result } = JSON.parse(first.stdout);
    const file = join(command.work, 'wild.json');
    const wild = {
      ...result,
      connection: '\u001b[2J\n',
      provider: { name: 'a', reason: '\u001b]0;x\u0007' },
    };
    await writeFile(file, JSON.stringify(wild));
    const { code, stdout } = await command.run('bench', '--from', file);
    expect(code).toBe(0);
    expect(stdout).toContain('provider a: ?]0;x?; ?[2J');
    expect([...stdout].filter((letter) => letter < ' ' && letter !== '\n')).toEqual([]);
  });

  it.each([
    [['--rounds', 'abc'], /Expected a whole number but received abc/],
    [['--rounds', '0'], /Expected 1 to 1000/],
    [['--sizes', '4Q'], /size such as 4096/],
    [['--sizes', '4M-4K'], /a range such as 4K-4M/],
    [['--sizes', '1G'], /Expected 1 to 67108864/],
    [['--measure', 'speed'], /speed is none of write, read, send, latency, migration/],
    [['--crc', 'maybe'], /Expected on, off/],
    [['--plot', 'out.gif'], /\.svg or \.png/],
    [['--plot', '/nonexistent/out.svg'], /--plot: \/nonexistent\/out.svg cannot be written/],
    [['--seconds', '1', '--bytes', '1M'], /cannot be used with/],
    [['--once'], /--once goes with --listen/],
    [['--max-ram', '1G'], /--max-ram goes with --listen/],
    [['--listen', 'rdma:127.0.0.1:0', '--max-ram', '1'], /Expected 1048576 to 17592186044416/],
    [['--listen', 'rdma:127.0.0.1:0', '--rounds', '2'], /--rounds is for the end that measures/],
    [['tcp:host:1'], /Invalid URI/],
    [['--queue-pairs', '64', '--sizes', '64M'], /bytes of buffers/],
    [['--from', '/dev/null'], /no result of rdma-migrate bench/],
  ])('refuses %j before it measures', async (given, message) => {
    const { code, stdout, stderr } = await command.run('bench', ...given);
    expect([code, stdout]).toEqual([2, '']);
    expect(stderr).toMatch(message);
    expect(stderr).not.toMatch(/^ +at /m);
  });

  it('says that a port is taken, or that nobody listens there', async () => {
    const server = command.start('bench', '--listen', 'rdma:127.0.0.1:0');
    const [, uri = ''] = await server.waitForOutput(/^listening at (\S+)\n/);
    const second = await command.run('bench', '--listen', uri);
    expect([second.code, second.stderr]).toEqual([3, expect.stringContaining('ADDRESS_IN_USE')]);
    server.kill('SIGTERM');
    await server.ended;
    const alone = await command.run('bench', uri);
    expect([alone.code, alone.stderr]).toEqual([3, expect.stringContaining('CONNECTION_REFUSED')]);
  });

  it('shows examples with --help', async () => {
    const { code, stdout } = await command.run('bench', '--help');
    expect(code).toBe(0);
    expect(stdout).toContain('rdma-migrate bench --listen rdma:0.0.0.0:4444');
  });
});
