/**
 * Whether whoever started this process wants it to outlive its terminal (nohup). Node sets every signal back to its default when it
 * starts, so that what nohup did to SIGHUP is gone by the time this runs; two traces of it stay.
 */
import { readFileSync } from 'node:fs';

const SIGHUP_BIT = 1n;
const ACCESS_MODE = 3;
const WRITE_ONLY = 1;

/** `proc`: for tests. */
export function outlivesTerminal(proc = '/proc', parent = process.ppid): boolean {
  return stdinIsFromNohup(proc) || ignoresHangup(proc, parent);
}

/** nohup puts /dev/null, opened for writing alone, in the place of a terminal at stdin: nobody else does that. */
function stdinIsFromNohup(proc: string): boolean {
  const flags = field(`${proc}/self/fdinfo/0`, /^flags:\s*([0-7]+)$/m);
  return flags !== undefined && (Number.parseInt(flags, 8) & ACCESS_MODE) === WRITE_ONLY;
}

/** A script that nohup runs ignores SIGHUP itself, and its children are meant to inherit that. */
function ignoresHangup(proc: string, pid: number): boolean {
  const ignored = field(`${proc}/${pid}/status`, /^SigIgn:\s*([0-9a-f]{1,16})$/m);
  return ignored !== undefined && (BigInt(`0x${ignored}`) & SIGHUP_BIT) !== 0n;
}

function field(file: string, pattern: RegExp): string | undefined {
  try {
    return pattern.exec(readFileSync(file, 'latin1'))?.[1];
  } catch {
    return undefined; // no /proc, or a parent that has gone: nobody asked for anything
  }
}
