import { describe, expect, it, vi } from 'vitest';
import { parseBenchArguments } from './arguments.ts';

/** commander says what is wrong on stderr. */
function refused(...argv: string[]): unknown {
  const quiet = vi.spyOn(process.stderr, 'write').mockReturnValue(true);
  try {
    return parseBenchArguments(argv);
  } catch (error) {
    return error;
  } finally {
    quiet.mockRestore();
  }
}

describe('the command line of npm run vm', () => {
  it('runs on siw with 4 GiB for at most ten minutes when nothing else is said', () => {
    expect(parseBenchArguments(['true'])).toEqual({
      device: 'siw',
      memoryMiB: 4096,
      forward: [],
      unprivileged: false,
      timeoutMs: 600_000,
      verbose: false,
      command: ['true'],
    });
  });

  it('leaves options after the command to the command, with and without --', () => {
    expect(parseBenchArguments(['--device', 'rxe', 'ls', '--device', 'x']).command).toEqual([
      'ls',
      '--device',
      'x',
    ]);
    expect(parseBenchArguments(['--device', 'rxe', '--', 'ls', '--help']).command).toEqual(['ls', '--help']);
  });

  it('takes sizes, several ports and a time', () => {
    const argv = [
      '--memory',
      '2G',
      '--forward',
      '14444:4444',
      '--forward',
      '80:8080',
      '--timeout',
      '1.5',
      'x',
    ];
    expect(parseBenchArguments(argv)).toMatchObject({
      memoryMiB: 2048,
      forward: [
        { host: 14444, guest: 4444 },
        { host: 80, guest: 8080 },
      ],
      timeoutMs: 1500,
    });
  });

  it.each([
    ['no command', []],
    ['an unknown device', ['--device', 'mlx5', 'x']],
    ['too little memory', ['--memory', '511M', 'x']],
    ['memory without a unit', ['--memory', '4096', 'x']],
    ['a port that is none', ['--forward', '1:65536', 'x']],
    ['three ports', ['--forward', '1:2:3', 'x']],
    ['no time at all', ['--timeout', '0', 'x']],
  ])('refuses %s as a usage error', (_, argv) => {
    expect(refused(...argv)).toMatchObject({ name: 'BenchError', exitCode: 64 });
  });
});
