/** What goes to stderr: notices in words, or with --verbose a log that is fit for a report of a bug. */
import { type Logger, type LoggerOptions, pino, stdTimeFunctions } from 'pino';
import { printable } from './format.ts';
import type { Priority } from './journal.ts';

export type LogFormat = 'text' | 'json';

export interface LogOptions {
  readonly quiet: boolean;
  readonly verbose: boolean;
  /** `json`: lines as pino writes them. */
  readonly format: LogFormat;
}

/** Of a line, by its level in pino. */
const PRIORITIES: Readonly<Record<string, Priority>> = {
  error: 'error',
  fatal: 'error',
  warn: 'warning',
  info: 'notice',
};

/** A logger: notices, with `verbose` details too, with `quiet` nothing. `write` gets one line without its end. */
export function createLogger(
  { quiet, verbose, format }: LogOptions,
  write: (line: string, priority: Priority) => void,
): Logger {
  const settings: LoggerOptions = {
    level: quiet ? 'silent' : verbose ? 'debug' : 'info',
    timestamp: stdTimeFunctions.isoTime,
    formatters: { level: (label) => ({ level: label }) },
    ...(format === 'text' && { base: null }),
  };
  const text = verbose ? logLine : noticeLine;
  return pino(settings, {
    write: (json) => {
      const line = JSON.parse(json) as Line;
      const priority = PRIORITIES[String(line.level)] ?? 'debug';
      write(format === 'json' ? json.trimEnd() : printable(text(line)), priority);
    },
  });
}

type Line = Readonly<Record<string, unknown>> & { readonly msg: string };

const noticeLine = ({ msg }: Line): string => `rdma-migrate: ${msg}`;

/** What is said elsewhere in the line, or says nothing. */
const UNSAID = new Set(['time', 'level', 'msg', 'role', 'type', 'at', 'state', 'message', 'ended', 'took']);

/** `2026-11-22T18:39:30.123Z info source: link connected, peer=192.0.2.7:4444 ...` */
function logLine(line: Line): string {
  const { time, level, role, msg, ended, took } = line;
  const members = Object.entries(line).filter(([name]) => !UNSAID.has(name));
  const said = members.map(
    ([name, value]) => `${name}=${typeof value === 'string' ? value : JSON.stringify(value)}`,
  );
  const who = role === undefined ? '' : `${role}: `;
  const after = typeof took === 'number' ? ` (${ended} took ${took.toFixed(1)} ms)` : '';
  const head = `${time} ${String(level).padEnd(5)} ${who}${msg}${after}`;
  return said.length === 0 ? head : `${head} | ${said.join(' ')}`;
}
