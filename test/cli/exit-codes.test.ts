import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { EXIT, EXIT_CODE_HELP, exitCodeOf } from '../../lib/cli/exit-codes.ts';
import { ERROR_CODES, type ErrorCode } from '../../lib/errors.ts';

const DOCUMENT = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8');

/** Rows of the document's tables as cells. */
function rows(first: RegExp): string[][] {
  return DOCUMENT.split('\n')
    .filter((line) => first.test(line))
    .map((line) => line.split('|').slice(1, -1))
    .map((cells) => cells.map((cell) => cell.trim()));
}

describe('docs/errors.md', () => {
  const codes = rows(/^\| `[A-Z_]+` \|/);

  it('lists every error code once, in the order of lib/errors.ts', () => {
    expect(codes.map(([code]) => code)).toEqual(ERROR_CODES.map((code) => `\`${code}\``));
  });

  it('has a meaning and a remedy for each', () => {
    for (const [code, meaning, remedy, ...rest] of codes) {
      expect([code, meaning, remedy, rest.length]).toEqual([
        code,
        expect.stringMatching(/\w/),
        expect.stringMatching(/\w/),
        1,
      ]);
    }
  });

  it('says the exit code that the command ends with', () => {
    const said = Object.fromEntries(codes.map(([code = '', , , exit]) => [code.slice(1, -1), exit]));
    const mapped = ERROR_CODES.map((code) => [code, String(exitCodeOf(code))]);
    expect(said).toEqual({ ...Object.fromEntries(mapped), CANCELLED: '129, 130 or 143' });
  });

  it('lists every exit code, as --help does', () => {
    const listed = rows(/^\| \d+ \|/).map(([code]) => Number(code));
    expect(listed).toEqual(Object.values(EXIT));
    for (const code of listed) expect(EXIT_CODE_HELP).toMatch(new RegExp(`(^|\\s)${code}[ :]`));
  });
});

describe('exitCodeOf', () => {
  it('tells the signal that cancelled, and the same for every other error', () => {
    expect(exitCodeOf('CANCELLED')).toBe(130);
    expect(exitCodeOf('CANCELLED', 'SIGINT')).toBe(130);
    expect(exitCodeOf('CANCELLED', 'SIGTERM')).toBe(143);
    expect(exitCodeOf('CANCELLED', 'SIGHUP')).toBe(129);
    expect(exitCodeOf('DISK_FULL', 'SIGTERM')).toBe(EXIT.image);
  });

  it('has an exit code of its own for an unknown outcome, and 0 for no error', () => {
    const others = ERROR_CODES.filter((code: ErrorCode) => code !== 'COMMIT_UNKNOWN').map((code) =>
      exitCodeOf(code),
    );
    expect(others).not.toContain(exitCodeOf('COMMIT_UNKNOWN'));
    expect(others).not.toContain(EXIT.ok);
  });
});
