import { type Logger, type LoggerOptions, pino, stdTimeFunctions } from 'pino';
import type { Priority } from './journal.ts';

export interface LogOptions {
  readonly quiet: boolean;
  readonly verbose: boolean;
  /** Lines of JSON as pino writes them; otherwise text. */
  readonly json: boolean;
}

/** Of a line, by its level in pino. */
const priorityOf = (level: number): Priority =>
  level >= 50 ? 'error' : level >= 40 ? 'warning' : level >= 30 ? 'notice' : 'debug';

/** A logger to stderr: notices, with `verbose` details too, with `quiet` nothing. `write` gets one line without its end. */
export function createLogger(options: LogOptions, write: (line: string, priority: Priority) => void): Logger {
  const level = options.quiet ? 'silent' : options.verbose ? 'debug' : 'info';
  const settings: LoggerOptions = options.json
    ? { level, timestamp: stdTimeFunctions.isoTime }
    : { level, base: null, timestamp: false };
  return pino(settings, {
    write: (line) => {
      const { msg, level } = JSON.parse(line) as { msg: string; level: number };
      write(options.json ? line.trimEnd() : `rdma-migrate: ${msg}`, priorityOf(level));
    },
  });
}
