/**
 * A suite that does not end. On rxe of Linux 6.1 a message of the connection manager may never be completed: whoever destroys its rdma_cm id
 * then waits in the kernel for ever, and no signal ends that process. Only a new VM helps; suite.ts boots one, once, and says so.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';

const LOOK_EVERY_MS = 5000;
/** The kernel says it every ten seconds for as long as one waits; a device that is only slow takes a second or two. */
const COMPLAINTS = 6;
const COMPLAINT = /cm_destroy_id_wait_timeout: cm_id=(\S+) timed out/;
const SAID_LINES = 250;

/** Whether the kernel says again and again that the same rdma_cm id cannot be destroyed. */
export function isIdStuck(kernelLog: string): boolean {
  const complaints = new Map<string, number>();
  for (const line of kernelLog.split('\n')) {
    const id = COMPLAINT.exec(line)?.[1];
    if (id === undefined) continue;
    const times = (complaints.get(id) ?? 0) + 1;
    if (times >= COMPLAINTS) return true;
    complaints.set(id, times);
  }
  return false;
}

function output(program: string, ...args: string[]): string {
  try {
    return execFileSync(program, args, { encoding: 'utf8', timeout: 10_000, maxBuffer: 16 << 20 });
  } catch (error) {
    return `${program}: ${(error as Error).message}\n`;
  }
}

/** Resolves when an rdma_cm id is stuck. @throws the signal's reason */
export async function untilIdStuck(signal: AbortSignal): Promise<'id-stuck'> {
  for (;;) {
    await setTimeout(LOOK_EVERY_MS, undefined, { signal });
    if (isIdStuck(output('dmesg'))) return 'id-stuck';
  }
}

/** What the kernel says without end hides what it said before. */
function withoutRepetition(lines: readonly string[]): string[] {
  const text = (line: string | undefined) => line?.replace(/^\[[ \d.]+\] /, '');
  return lines.filter((line, index) => index === 0 || text(line) !== text(lines[index - 1]));
}

/** The processes, and the stacks of those that no signal reaches (sysrq w), as lines. */
export function describeStuck(): string {
  const isKernelThread = (line: string) => /\[\S+\]$/.test(line);
  const processes = output('ps', '-eLo', 'pid,tid,ppid,stat,wchan:32,args')
    .split('\n')
    .filter((line) => !isKernelThread(line) || / D/.test(line));
  writeFileSync('/proc/sysrq-trigger', 'w');
  const said = withoutRepetition(output('dmesg').split('\n'));
  return [...processes, ...said.slice(-SAID_LINES)].join('\n');
}
