import type { MigrationEvent, NoticeCode } from './events.ts';

/** Which end of a migration speaks. */
export type MigrationRole = 'source' | 'destination';

/**
 * Where a migration logs, in the form that pino has: `new MigrationSource(vm, uri, { logger: pino() })` fits as it is. `obj` is plain data, with
 * `role` and the event's own members; of a failure it has the error as `err`. What a logger throws changes nothing.
 */
export interface MigrationLogger {
  debug(obj: object, msg: string): void;
  info(obj: object, msg: string): void;
  warn(obj: object, msg: string): void;
  error(obj: object, msg: string): void;
}

const LEVELS = ['debug', 'info', 'warn', 'error'] as const;

export const isLogger = (value: unknown): value is MigrationLogger =>
  typeof value === 'object' &&
  value !== null &&
  LEVELS.every((level) => typeof (value as Record<string, unknown>)[level] === 'function');

/** These ask for somebody's attention; all others are for the record. */
const WARNINGS: ReadonlySet<NoticeCode> = new Set([
  'UNPROTECTED',
  'DOWNTIME_UNREACHABLE',
  'NO_THROTTLE',
  'SOURCE_NOT_TOLD',
  'ABORT_FAILED',
  'SUBSCRIBER_FAILED',
]);

/**
 * `error`: the migration has failed. `warn`: notices that ask for attention. `info`: who the peer is, how much is to be moved, all other notices,
 * a cancel, the result. `debug`: phases, rounds, what is done to the guest. Samples of counters are not logged.
 */
export function log(logger: MigrationLogger, role: MigrationRole, event: MigrationEvent): unknown {
  const line = lineOf(event);
  if (line === undefined) return undefined;
  const { level, text, fields = event } = line;
  // One that is asynchronous may fail later.
  return logger[level]({ role, ...fields }, text);
}

interface Line {
  readonly level: keyof MigrationLogger;
  readonly text: string;
  /** Default: the event's members. */
  readonly fields?: object;
}

/** undefined: not logged. */
function lineOf(event: MigrationEvent): Line | undefined {
  switch (event.type) {
    case 'end':
      return lastLine(event);
    case 'notice':
      return { level: WARNINGS.has(event.code) ? 'warn' : 'info', text: event.message };
    case 'link':
      return { level: event.state === 'connecting' ? 'debug' : 'info', text: `link ${event.state}` };
    case 'phase':
      return { level: 'debug', text: `phase ${event.phase}` };
    case 'round':
      return { level: 'debug', text: `round ${event.state}` };
    case 'throttle':
    case 'downtime':
      return { level: 'debug', text: event.type };
    case 'bytes':
    case 'zero':
    case 'pin':
      return undefined;
  }
}

function lastLine(event: Extract<MigrationEvent, { type: 'end' }>): Line {
  if (event.status === 'completed') return { level: 'info', text: 'migration completed' };
  const { type, at, status, error } = event;
  const fields = { type, at, status, err: error };
  if (status === 'cancelled') return { level: 'info', text: `migration cancelled: ${error.message}`, fields };
  return { level: 'error', text: `migration failed: ${error.message}`, fields };
}
