import { type Logger, type LoggerOptions, pino, stdTimeFunctions } from 'pino';

export interface LogOptions {
  readonly quiet: boolean;
  readonly verbose: boolean;
  /** Lines of JSON as pino writes them; otherwise text. */
  readonly json: boolean;
}

/** A logger to stderr: notices, with `verbose` details too, with `quiet` nothing. `write` gets one line without its end. */
export function createLogger(options: LogOptions, write: (line: string) => void): Logger {
  const level = options.quiet ? 'silent' : options.verbose ? 'debug' : 'info';
  const settings: LoggerOptions = options.json
    ? { level, timestamp: stdTimeFunctions.isoTime }
    : { level, base: null, timestamp: false };
  return pino(settings, { write: (line) => write(options.json ? line.trimEnd() : textOf(line)) });
}

function textOf(line: string): string {
  const { msg } = JSON.parse(line) as { msg: string };
  return `rdma-migrate: ${msg}`;
}
