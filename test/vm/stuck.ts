/** What a VM tells of itself when a suite has not ended: which processes wait in the kernel, and where. */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';

const SAID_LINES = 250;

/** What the kernel says once a second without end hides what it said before. */
function withoutRepetition(lines: readonly string[]): string[] {
  const text = (line: string) => line.replace(/^\[[ \d.]+\] /, '');
  return lines.filter((line, index) => index === 0 || text(line) !== text(lines[index - 1] ?? ''));
}

/** The processes, and the stacks of those that no signal reaches (sysrq w), as lines. */
export function describeStuck(): string {
  const run = (program: string, ...args: string[]) => {
    try {
      return execFileSync(program, args, { encoding: 'utf8', timeout: 10_000, maxBuffer: 16 << 20 });
    } catch (error) {
      return `${program}: ${(error as Error).message}\n`;
    }
  };
  const processes = run('ps', '-eLo', 'pid,tid,ppid,stat,wchan:32,args')
    .split('\n')
    .filter((line) => !/\[\S+\]$/.test(line) || / D/.test(line));
  writeFileSync('/proc/sysrq-trigger', 'w');
  const said = withoutRepetition(run('dmesg').split('\n'));
  return [...processes, ...said.slice(-SAID_LINES)].join('\n');
}
